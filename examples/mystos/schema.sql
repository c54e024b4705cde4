-- What the routes read and write of MystOS: the columns that they need, no more.
-- MystOS has these tables already; this is for trying the routes, and for tests.
create type appointment_status as enum ('requested', 'confirmed', 'completed', 'no_show', 'canceled');
create type quote_status as enum ('pending', 'sent', 'accepted', 'declined');
create type pipeline_stage as enum ('new', 'contacted', 'qualified', 'quoted', 'won', 'lost');

create table contacts (
    id                       uuid primary key default gen_random_uuid(),
    first_name               text,
    last_name                text,
    email                    text,
    phone                    text,
    phone_e164               text,
    preferred_contact_method text,
    source                   text,
    created_at               timestamptz not null default now(),
    updated_at               timestamptz not null default now()
);

create table properties (
    id            uuid primary key default gen_random_uuid(),
    contact_id    uuid not null references contacts,
    address_line1 text not null,
    address_line2 text,
    city          text not null,
    state         text not null,
    postal_code   text not null,
    created_at    timestamptz not null default now()
);

create table leads (
    id                 uuid primary key default gen_random_uuid(),
    contact_id         uuid not null references contacts,
    property_id        uuid references properties,
    services_requested text[] not null default '{}',
    notes              text,
    form_payload       jsonb,       -- {"scheduling": {"preferredDate", "alternateDate", "timeWindow"}}
    status             text not null default 'new',
    created_at         timestamptz not null default now()
);

create table appointments (
    id                uuid primary key default gen_random_uuid(),
    contact_id        uuid not null references contacts,
    property_id       uuid references properties,
    lead_id           uuid references leads,
    type              text not null default 'estimate',
    start_at          timestamptz,
    duration_min      integer not null default 60,
    travel_buffer_min integer not null default 30,
    status            appointment_status not null default 'requested',
    calendar_event_id text,
    reschedule_token  text,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now()
);
create index appointments_lead on appointments (lead_id);

create table appointment_notes (
    id             uuid primary key default gen_random_uuid(),
    appointment_id uuid not null references appointments,
    body           text not null,
    created_at     timestamptz not null default now()
);

create table quotes (
    id             uuid primary key default gen_random_uuid(),
    contact_id     uuid not null references contacts,
    property_id    uuid references properties,
    status         quote_status not null default 'pending',
    services       jsonb not null default '[]',
    total          numeric not null,
    deposit_due    numeric not null default 0,
    balance_due    numeric not null default 0,
    notes          text,
    share_token    text,
    sent_at        timestamptz,
    expires_at     timestamptz,
    decision_at    timestamptz,
    decision_notes text,
    created_at     timestamptz not null default now()
);

create table crm_pipeline (
    contact_id uuid primary key references contacts,
    stage      pipeline_stage not null default 'new',
    notes      text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
