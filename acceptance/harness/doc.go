// Package harness runs ExESDB as its users do: as processes, over sockets. It
// builds the binaries, starts `exesdb up` or each service alone, waits until they
// are ready, kills, freezes and restarts them, and talks to them over REST, gRPC
// and Kafka.
//
// With KAFKA_BROKERS and REDIS_ADDR set, everything runs on those, each test with
// a store id of its own; otherwise on the embedded broker and Redis.
package harness
