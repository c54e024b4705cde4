// Package failpoint marks the points of the program at which the fault rig
// (internal/faultrig) has it die, stand still or panic.
//
// They are there in builds with the tag failpoint only. In any other, Hit is
// empty and nothing of it is left in the program, which a test holds.
//
// The points, by the names of their places in the protocol:
//
//	K1   LISTEN stands, and nobody has looked yet
//	K2   a claim was made, and its answer is not read
//	K3   an event is claimed, and its payload not loaded
//	K4   it is planned and rendered, and nothing is announced
//	K5   "sending" is committed
//	K6   the provider is dialed, and nothing written
//	K7   the request is written, and nothing of the answer is read
//	K8   the status line is read, and the body is not
//	K9   the answer is complete, and no record was sent
//	K10  the record was sent, and its commit not heard of
//	K11  the record is committed
//	K12  an item is taken from the middle of a batch
//	K13  leases are about to be renewed
//	K14a the provider was asked whether it has a delivery, and nothing is on record
//	K14b what it has is on record, and nothing has followed
//	K15  a model has answered, and nothing of that is stored
//	K17  at a stop, nothing is claimed any more and nothing is given back
//	K18  a retention has deleted a batch, and its commit is not heard of
//	K19  a file of a migration is run, and that is not on record
//	K20a at a stop, what could not be recorded is in a file
//	K20b it is on record after the next start, and the file is still there
//
// Of a conversation by SMTP:
//
//	K16a  after MAIL
//	K16b  after RCPT
//	K16c  after DATA
//	K16d  the message is written, and its final dot is not
//	K16e  the final dot is written, and its answer is not read
//	K16f  the final dot is answered
package failpoint
