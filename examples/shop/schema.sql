-- The tables of a shop: what the routes read of them.
create table customers (
    id    bigint generated always as identity primary key,
    name  text not null,
    email text not null,
    phone text
);

create table orders (
    id           bigint generated always as identity primary key,
    customer_id  bigint not null references customers,
    total        numeric(12, 2) not null,
    currency     text not null default 'EUR',
    tracking_url text,
    paid_at      timestamptz,
    shipped_at   timestamptz
);

create table order_lines (
    order_id bigint not null references orders,
    position int not null,
    title    text not null,
    quantity int not null,
    price    numeric(12, 2) not null,
    primary key (order_id, position)
);
