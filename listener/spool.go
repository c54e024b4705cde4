package listener

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// A spool is what a stop could not put on record: JSON, one line for each record,
// between a line that says whose it is and one that says how many there are.
// Each record is whole in itself, so that a line that is lost costs no other.
//
//	{"outbox_spool":1,"database":"7436285941053112345/16384"}
//	{"claim":"…","event_seq":17,"event":"…","type":"sms.send","created":"…","deliveries":[{…}]}
//	{"claim":"…","event_seq":18,"event":"…","delivery":{…}}
//	{"pause":{"destination":"…","reason":"…","seconds":60}}
//	{"end":3}

// spoolVersion is that of the form of a spool.
const spoolVersion = 1

// Bounds of what is read. What is written keeps to them: a payload that is larger
// than a line is refused before it is sent, unless somebody asks for more.
const (
	spoolLine = 512 << 20
	spoolRows = 100_000 // deliveries of one event
)

// spoolHead is the first line.
type spoolHead struct {
	Version  int    `json:"outbox_spool"`
	Database string `json:"database"` // see database_identity.sql
}

// spoolEnd is the last line.
type spoolEnd struct {
	End *int `json:"end"` // lines between the first and this one
}

// spooled is one record: a whole event with its deliveries, or one delivery that
// is on its own, whose fence is the claim, as that of any record; or a pause, which has none.
type spooled struct {
	Claim      uuid.UUID    `json:"claim,omitzero"`
	Seq        int64        `json:"event_seq,omitempty"`
	Event      uuid.UUID    `json:"event,omitzero"`
	Type       string       `json:"type,omitempty"`   // of a whole event
	CreatedAt  time.Time    `json:"created,omitzero"` // of a whole event, by the database's clock
	Deliveries []spooledRow `json:"deliveries,omitempty"`
	Delivery   *spooledRow  `json:"delivery,omitempty"`
	Pause      *spooledWish `json:"pause,omitempty"` // and nothing else
}

// spooledWish is what a provider asked for: that nothing is sent there.
type spooledWish struct {
	Destination string  `json:"destination"`
	Reason      string  `json:"reason"`
	Seconds     float64 `json:"seconds"` // from when it is recorded, so that it ends too late sooner than too early
}

func (w *spooledWish) check() error {
	switch {
	case w.Destination == "" || w.Reason == "":
		return errors.New("a pause names no destination, or no reason")
	case clean(w.Destination) != w.Destination || clean(w.Reason) != w.Reason:
		return errors.New("a pause has characters that none has")
	case !(w.Seconds >= 0 && w.Seconds <= dispatch.MaxRetryAfter.Seconds()):
		return errors.New("a pause is as long as none can be")
	}
	return nil
}

// spooledRow is what the ledger is to have of a delivery. What names a recipient is
// masked as it is in the ledger. Content is there where the ledger has none yet and
// the delivery is not over.
type spooledRow struct {
	ID         uuid.UUID      `json:"id"`
	Route      string         `json:"route,omitempty"`
	Step       string         `json:"step,omitempty"`
	Channel    string         `json:"channel,omitempty"`
	Recipient  string         `json:"recipient,omitempty"`
	State      dispatch.State `json:"state"`
	Attempts   int            `json:"attempts"`
	Generation int            `json:"generation,omitempty"`
	ProviderID *string        `json:"provider_id,omitempty"`
	LastError  *string        `json:"last_error,omitempty"`
	DueIn      *float64       `json:"due_in,omitempty"` // seconds from when it is recorded
	Content    *string        `json:"content,omitempty"`
	Answer     *string        `json:"answer,omitempty"`
	Open       bool           `json:"open,omitempty"` // it has no outcome: its claim is left to run out
	Tried      *spooledTry    `json:"tried,omitempty"`
}

// spooledTry is an attempt that was not simply taken.
type spooledTry struct {
	Attempt int            `json:"attempt"`
	Took    float64        `json:"took"` // seconds
	State   dispatch.State `json:"state"`
	Kind    dispatch.Kind  `json:"kind"`
	Status  *int           `json:"status,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// spoolStates are the states that an outcome may have.
var spoolStates = map[dispatch.State]bool{
	dispatch.Scheduled: true, dispatch.Ready: true, dispatch.Sending: true, dispatch.Retry: true, dispatch.Uncertain: true, dispatch.Held: true,
	dispatch.Delivered: true, dispatch.Dead: true, dispatch.Expired: true, dispatch.Canceled: true, dispatch.Skipped: true,
}

// check says what of a record cannot be.
func (s *spooled) check() error {
	switch {
	case s.Pause != nil:
		if bare := (&spooled{Pause: s.Pause}); !reflect.DeepEqual(s, bare) {
			return errors.New("a pause is a record of its own")
		}
		return s.Pause.check()
	case s.Claim == uuid.Nil:
		return errors.New("it names no claim")
	case s.Event == uuid.Nil || s.Seq < 0:
		return errors.New("it names no event")
	case (s.Delivery == nil) == (len(s.Deliveries) == 0):
		return errors.New("it has to have either deliveries or a delivery")
	case s.Delivery != nil && s.Delivery.Open:
		return errors.New("a delivery that is on its own has no outcome")
	case len(s.Deliveries) > spoolRows:
		return fmt.Errorf("%d deliveries are more than any event has", len(s.Deliveries))
	}
	for _, r := range s.rows() {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *spooled) rows() []spooledRow {
	if s.Delivery != nil {
		return []spooledRow{*s.Delivery}
	}
	return s.Deliveries
}

func (r *spooledRow) check() error {
	switch {
	case r.ID == uuid.Nil:
		return errors.New("a delivery has no id")
	case !spoolStates[r.State]:
		return fmt.Errorf("%.20q is no state of a delivery", string(r.State))
	case r.Attempts < 0 || r.Attempts > math.MaxInt32 || r.Generation < 0 || r.Generation > math.MaxInt32:
		return errors.New("a number of attempts or generations that cannot be")
	case r.DueIn != nil && !(*r.DueIn >= 0 && *r.DueIn < 1e9):
		return errors.New("it is due at a time that cannot be")
	case r.Content != nil && !json.Valid([]byte(*r.Content)), r.Answer != nil && !json.Valid([]byte(*r.Answer)):
		return errors.New("a content or an answer that is no JSON")
	case r.Tried != nil && (!spoolStates[r.Tried.State] || r.Tried.Attempt < 0 || r.Tried.Attempt > math.MaxInt32 || !(r.Tried.Took >= 0 && r.Tried.Took < 1e9)):
		return errors.New("an attempt that cannot be")
	case r.Tried != nil && r.Tried.Status != nil && (*r.Tried.Status < 0 || *r.Tried.Status > math.MaxInt32):
		return errors.New("a status that cannot be")
	}
	return nil
}

// writeSpool writes the records of one database.
func writeSpool(w io.Writer, database string, records []spooled) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(spoolHead{spoolVersion, database}); err != nil {
		return err
	}
	for i := range records {
		if err := enc.Encode(&records[i]); err != nil {
			return err
		}
	}
	n := len(records)
	return enc.Encode(spoolEnd{&n})
}

// errForeignDatabase says that a spool is of another database.
var errForeignDatabase = errors.New("it is of another database")

// errNoSpool says that a file is not what its name says.
var errNoSpool = errors.New("line 1: it is no spool of this version")

// refusedLine is a line that cannot be taken.
type refusedLine struct {
	line int // from 1
	err  error
}

func (r refusedLine) Error() string { return fmt.Sprintf("line %d: %v", r.line, r.err) }

// readSpool reads the records of a spool of database, and what of it has to be
// refused. err is about the whole of it: then there are no records.
func readSpool(r io.Reader, database string) (records []spooled, refused []refusedLine, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	first, end, err := spoolText(in)
	var head spoolHead
	switch {
	case err != nil && !errors.Is(err, errLongLine):
		return nil, nil, err
	case end || strictJSON(first, &head) != nil || head.Version != spoolVersion || head.Database == "":
		return nil, nil, errNoSpool
	case head.Database != database:
		return nil, nil, fmt.Errorf("line 1: %w: %.60q, and this is %q", errForeignDatabase, head.Database, database)
	}
	total := -1
	for n := 2; ; n++ {
		text, end, err := spoolText(in)
		if err != nil && !errors.Is(err, errLongLine) {
			return nil, nil, err
		}
		if len(text) == 0 && end && err == nil {
			if total < 0 {
				refused = append(refused, refusedLine{n, errors.New("its last line is missing: it was torn")})
			} else if total != n-3 {
				refused = append(refused, refusedLine{n - 1, fmt.Errorf("there should be %d records, and there are %d lines", total, n-3)})
			}
			return records, refused, nil
		}
		var one spooled
		var last spoolEnd
		switch {
		case err != nil:
		case total >= 0:
			err = errors.New("it stands behind the last one")
		case strictJSON(text, &last) == nil && last.End != nil && *last.End >= 0:
			total = *last.End
			continue
		default:
			if err = strictJSON(text, &one); err == nil {
				err = one.check()
			}
			if err == nil && end {
				err = errors.New("it has no end: it was torn")
			}
		}
		if err != nil {
			refused = append(refused, refusedLine{n, err})
		} else {
			records = append(records, one)
		}
	}
}

var errLongLine = fmt.Errorf("it is longer than %d bytes", spoolLine)

// spoolText reads a line, without its end. end says that it is the last one, and
// has none.
func spoolText(in *bufio.Reader) (text []byte, end bool, err error) {
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if len(text)+len(part) > spoolLine {
			long, text = true, nil
		}
		if !long {
			text = append(text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, false, err
		}
		if long {
			return nil, err != nil, errLongLine
		}
		return bytes.TrimSuffix(text, []byte("\n")), err != nil, nil
	}
}

// strictJSON reads one value into v, in which nothing may stand that v does not
// know. Its error shows nothing of the text.
func strictJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var odd *json.UnmarshalTypeError
		switch {
		case errors.As(err, &odd):
			return fmt.Errorf("%.60q is no %s", odd.Field, odd.Type)
		case strings.HasPrefix(err.Error(), "json: unknown field"):
			return errors.New("it has a field that is not known here")
		}
		return errors.New("it is no JSON of a record")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it has more than one value")
	}
	return nil
}
