package standin

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
)

// SMTPScript says what a ScriptedSMTP does next. The event is
//
//   - "connect" when a client has connected,
//   - a command's line as it came, such as "EHLO client" or "MAIL FROM:<a@b>",
//   - "tls" when STARTTLS was answered with 220,
//   - "body" when DATA was answered with 354,
//   - "." when the final dot has arrived.
//
// The answer is a reply without its last line end, with "\n" between lines;
// SMTPDrop or SMTPHang; or "" for what a willing server would do. After a
// reply of 421 the connection is closed, as RFC 5321 wants it.
type SMTPScript func(event string) string

// What a script may do instead of replying.
const (
	SMTPDrop = "drop" // close the connection
	SMTPHang = "hang" // keep it open, say nothing, read nothing
)

// ScriptedSMTP is a mail server that misbehaves as it is told to.
type ScriptedSMTP struct {
	listener net.Listener
	config   *tls.Config
	pool     *x509.CertPool
	done     chan struct{}
	wg       sync.WaitGroup

	mu       sync.Mutex
	script   SMTPScript
	conns    map[net.Conn]bool
	events   []string
	received []Received
	ended    int
	closed   bool
}

// NewScriptedSMTP starts a server that follows script; nil is a willing one.
// Close it after use.
func NewScriptedSMTP(script SMTPScript) (*ScriptedSMTP, error) {
	config, pool, err := loopbackTLS()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &ScriptedSMTP{
		listener: l, config: config, pool: pool, script: script,
		done: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	s.wg.Go(s.serve)
	return s, nil
}

// Host is the address it listens on.
func (s *ScriptedSMTP) Host() string { return s.listener.Addr().(*net.TCPAddr).IP.String() }

// Port is the TCP port.
func (s *ScriptedSMTP) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// RootCAs returns the authority that signed its certificate.
func (s *ScriptedSMTP) RootCAs() *x509.CertPool { return s.pool }

// Follow replaces the script, from the next event on.
func (s *ScriptedSMTP) Follow(script SMTPScript) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Events returns the events so far, of all connections, oldest first.
func (s *ScriptedSMTP) Events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Received returns the messages that it said it took; see SMTP.Received.
func (s *ScriptedSMTP) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// Ended returns how many messages came up to their final dot, whatever the
// answer was: a real server may have kept each of them.
func (s *ScriptedSMTP) Ended() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Open returns how many connections are open.
func (s *ScriptedSMTP) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Close ends all connections and waits until nothing runs any more.
func (s *ScriptedSMTP) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

func (s *ScriptedSMTP) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.conns, c)
			}()
			// Its error says that the client hung up, or that a script ended it.
			_ = s.converse(c)
		})
	}
}

var errScriptEnded = errors.New("the script ended the connection")

// say asks the script about event and does what it says; usual is the
// willing reply, "" where there is none. It returns the reply.
func (s *ScriptedSMTP) say(c net.Conn, event, usual string) (string, error) {
	s.mu.Lock()
	s.events = append(s.events, event)
	script := s.script
	s.mu.Unlock()
	reply := usual
	if script != nil {
		if told := script(event); told != "" {
			reply = told
		}
	}
	switch reply {
	case "":
		return "", nil
	case SMTPDrop:
		return reply, errScriptEnded
	case SMTPHang:
		<-s.done
		return reply, errScriptEnded
	}
	if event == "." {
		return reply, nil // message writes it, once it has kept what was taken
	}
	return reply, write(c, reply)
}

func write(c net.Conn, reply string) error {
	out := bufio.NewWriter(c) // replies of many megabytes are among them
	out.WriteString(strings.ReplaceAll(reply, "\n", "\r\n"))
	out.WriteString("\r\n")
	if err := out.Flush(); err != nil {
		return err
	}
	if strings.HasPrefix(reply, "421") {
		return errScriptEnded
	}
	return nil
}

func (s *ScriptedSMTP) converse(c net.Conn) error {
	if _, err := s.say(c, "connect", "220 script.localhost ESMTP"); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	var rcpts []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		reply, err := s.say(c, line, willing(verb))
		if err != nil {
			return err
		}
		taken := strings.HasPrefix(reply, "2")
		switch {
		case verb == "QUIT":
			return nil
		case verb == "MAIL", verb == "RSET":
			rcpts = nil
		case verb == "RCPT" && taken:
			_, to, _ := strings.Cut(line, ":")
			to, _, _ = strings.Cut(to, " ")
			rcpts = append(rcpts, strings.Trim(to, "<>"))
		case verb == "STARTTLS" && taken:
			if _, err := s.say(c, "tls", ""); err != nil {
				return err
			}
			c = tls.Server(c, s.config)
			in = bufio.NewReader(c)
		case verb == "DATA" && strings.HasPrefix(reply, "3"):
			if err := s.message(c, in, rcpts); err != nil {
				return err
			}
		}
	}
}

// message reads one up to its final dot and answers it.
func (s *ScriptedSMTP) message(c net.Conn, in *bufio.Reader, rcpts []string) error {
	if _, err := s.say(c, "body", ""); err != nil {
		return err
	}
	var raw bytes.Buffer
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if string(line) == ".\r\n" {
			break
		}
		raw.Write(bytes.TrimPrefix(line, []byte(".")))
	}
	s.mu.Lock()
	s.ended++
	s.mu.Unlock()
	reply, err := s.say(c, ".", "250 2.0.0 Ok: queued as 4XyZ1")
	if err != nil {
		return err
	}
	if strings.HasPrefix(reply, "2") {
		s.mu.Lock()
		s.received = append(s.received, receivedMail(rcpts, raw.Bytes()))
		s.mu.Unlock()
	}
	return write(c, reply)
}

// willing is what a server says that has no objections.
func willing(verb string) string {
	switch verb {
	case "EHLO":
		return "250-script.localhost\n250-8BITMIME\n250 ENHANCEDSTATUSCODES"
	case "DATA":
		return "354 go ahead"
	case "QUIT":
		return "221 2.0.0 bye"
	case "STARTTLS":
		return "220 2.0.0 ready"
	case "AUTH":
		return "235 2.7.0 welcome"
	}
	return "250 2.0.0 Ok"
}
