module github.com/outbox-listener/outbox-listener/bench/peers/bare

go 1.26.0
