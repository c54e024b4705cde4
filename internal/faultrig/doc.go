// Package faultrig runs listeners as real processes against a private Postgres
// and stand-ins for the providers, has faults come upon all of them by a plan that
// a seed decides, and holds what became of each event against what was promised.
//
// Three ledgers are kept apart from each other and are compared when all is
// quiet: the producers' (what was committed, what was rolled back), the providers'
// (what was accepted, in a process of its own, on disk before it is answered), and
// the database's (the rows, and every change of them, kept by triggers of the
// rig). See docs/faults.md.
//
// The package is for tests. It needs the signals of Unix.
package faultrig
