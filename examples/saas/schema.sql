-- The tables of a service with accounts and trials: what the routes read of them.
create table accounts (
    id            bigint generated always as identity primary key,
    company       text not null,
    trial_ends_at timestamptz,
    plan          text,               -- null while on trial
    created_at    timestamptz not null default now()
);

create table users (
    id         bigint generated always as identity primary key,
    account_id bigint not null references accounts,
    email      text not null,
    name       text,
    owner      boolean not null default false
);
create index on users (account_id);

-- Where customers want to hear of what happens in their account.
create table webhook_endpoints (
    id         bigint generated always as identity primary key,
    account_id bigint not null references accounts,
    url        text not null,
    enabled    boolean not null default true
);
create index on webhook_endpoints (account_id);
