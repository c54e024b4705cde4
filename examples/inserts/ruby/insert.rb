# Books a visit and says so, in one transaction.
#
#     gem install pg
#     DATABASE_URL=postgres://… ruby insert.rb
require "json"
require "pg"

# Inserts a booking and the event that it was made. Where it raises, neither is there.
def book(conn, customer, phone)
  conn.transaction do |tx|
    id = tx.exec_params(<<~SQL, [customer, phone]).getvalue(0, 0)
      insert into bookings (customer, phone, starts_at)
      values ($1, $2, now() + interval '1 day') returning id
    SQL
    tx.exec_params("insert into outbox_events (type, payload) values ($1, $2)",
                   ["booking.created", JSON.generate({ bookingId: id.to_i })])
    id
  end
end

conn = PG.connect(ENV.fetch("DATABASE_URL"))
puts "booked #{book(conn, 'Ann', '+12025550123')}"
conn.close
