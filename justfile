# Everything a person or CI runs here. Nothing requires just: each recipe is
# the command itself.

# list the recipes
default:
    @just --list

# start everything on this machine: a private Postgres, stand-ins for the providers, the listener
dev *args:
    go run ./cmd/listener dev {{args}}

# all tests, with the race detector, each on a database of its own
test *args:
    go test -race ./... {{args}}

# bring the database of DATABASE_URL to the current schema
migrate *args:
    go run ./cmd/listener migrate {{args}}

# build the program for this machine into bin/
build:
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/ ./cmd/listener

# build it for each platform that it is released for
build-all:
    GOOS=linux   GOARCH=amd64 go build -o /dev/null ./cmd/listener
    GOOS=linux   GOARCH=arm64 go build -o /dev/null ./cmd/listener
    GOOS=darwin  GOARCH=arm64 go build -o /dev/null ./cmd/listener
    GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/listener

# gofmt, vet and staticcheck
lint:
    test -z "$(gofmt -l bench cmd dispatch examples internal listener migrations sql)"
    go vet ./...
    go vet -tags failpoint ./internal/failpoint ./internal/faultrig ./listener ./dispatch/...
    go tool -modfile=tools/go.mod staticcheck ./...

# measure it on this machine, beside River, Graphile Worker and pg-boss; --quick for a look, --only drain,latency for some
bench *args:
    go run ./cmd/listener bench {{args}}

# the half of it that needs large tables or minutes of events; just bench --part=short is the other
bench-long *args:
    go run ./cmd/listener bench --part=long {{args}}

# the micro-benchmarks
microbench *args:
    go test -run '^$' -bench . -benchmem {{args}} ./dispatch/... ./listener/...

# write the pages of docs/ that are made from the code
docs:
    go run ./cmd/listener config --markdown > docs/configuration.md
    go test ./dispatch/routes -run TestReference -update
    go test ./cmd/listener -run TestRoutesPage -update

# what CI runs
ci:
    .ci/run

# 11,112 events of three channels (10,000 committed), two processes, one of them killed every 300 ms: takes a minute
arrivals:
    OUTBOX_TEST_EVENTS=11112 go test ./cmd/listener -run 'TestEveryEventArrivesOnce|TestKilledAgainAndAgain' -v -count=1 -timeout 10m

# a receiver of webhooks that is down for a minute, beside others that are not: takes three; counts go to docs/evidence/outage.md
outage *args:
    OUTBOX_TEST_FSYNC=on go test ./cmd/listener -run TestOutage -count=1 -v -timeout 30m -outage 60s -backlog 20000 -outage-page ../../docs/evidence/outage.md {{args}}

# 10,000 events of a type that cannot be planned, beside others: takes two minutes; figures go to docs/evidence/failing-type.md
failing-type *args:
    OUTBOX_TEST_FSYNC=on go test ./cmd/listener -run TestFailingType -count=1 -v -timeout 30m -failing 10000 -failing-page ../../docs/evidence/failing-type.md {{args}}

# 200 runs of one or two listeners that are killed while sql steps run: takes two minutes
sql-kills:
    OUTBOX_TEST_SQL_RUNS=200 go test ./listener -run TestSQLStepsUnderKill -v -count=1 -timeout 20m

# 200 runs of a listener that is killed while it sends SMS, by each policy: takes some minutes
sms-kills:
    OUTBOX_TEST_SMS_RUNS=200 go test ./listener -run TestSMSUnderKill -v -count=1 -timeout 30m

# 1,000 runs of listeners, a database and providers that faults come upon, by seeds: takes an hour or two; counts go to docs/evidence/faults.md
faults *args:
    go test ./internal/faultrig -run TestFaults -count=1 -timeout 12h -v -runs=1000 -lease=3s -quiet=60s -parallel=4 -summary=../../docs/evidence/faults.md {{args}}

# 40 of the runs of just faults behind a real PgBouncer in transaction mode: takes ten minutes; counts go to docs/evidence/pgbouncer.md
pgbouncer *args:
    go test ./internal/faultrig -run TestFaults -count=1 -timeout 2h -v -runs=40 -events=80 -pgbouncer -summary=../../docs/evidence/pgbouncer.md {{args}}

# how soon listeners go on after 50 kills, 50 restarts of the server, 20 half-open connections and 500 SIGTERMs: takes ten minutes; figures go to docs/evidence/recovery.md
recovery *args:
    go test ./internal/faultrig -run TestRecovery -count=1 -timeout 2h -v -kills=50 -restarts=50 -halfopens=20 -sigterms=500 -parallel=4 -figures=../../docs/evidence/recovery.md {{args}}

# every state of the model of two listeners and one delivery: takes some minutes; counts go to docs/evidence/model.md
model *args:
    go test ./internal/model -run TestModel -count=1 -timeout 1h -v -all -summary=../../docs/evidence/model.md {{args}}

# a quarter of an hour of whole listeners in simulated worlds; counts go to docs/evidence/simulation.md
simulate *args:
    go test ./listener -run TestSimulation -count=1 -timeout 2h -v -simulations-for 15m -simulations-page ../docs/evidence/simulation.md {{args}}

# 10,000 random histories on the statements and on their reference in memory: takes ten minutes; counts go to docs/evidence/histories.md
differential *args:
    go test ./listener -run TestDifferential -count=1 -timeout 2h -v -histories 10000 -histories-for 2h -histories-page ../docs/evidence/histories.md {{args}}

# faults in our own code, each of which a test has to find: takes half an hour; what was found goes to docs/evidence/mutants.md; for some: just mutants -mutants=fence -mutants-page=
mutants *args:
    go test ./internal/faultrig -run TestMutants -count=1 -timeout 3h -v -mutants=. -mutants-page=../../docs/evidence/mutants.md {{args}}

# every fuzz target, 30 s each; just fuzz 10m for longer, just fuzz 1m Token Answer for some
fuzz *args:
    .ci/fuzz {{args}}
