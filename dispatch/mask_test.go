package dispatch

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestMask(t *testing.T) {
	for _, tt := range []struct {
		name      string
		ch        Channel
		recipient string
		want      string
	}{
		{"nothing", ChannelSMS, "", ""},
		{"a number", ChannelSMS, "+15550100112", "+1*******12"},
		{"a short number", ChannelSMS, "+4912345", "+4*******45"},
		{"no number", ChannelSMS, "Ann Smith", "***"},
		{"an address", ChannelEmail, "ann@example.com", "a***@example.com"},
		{"a letter of two bytes", ChannelEmail, "éva@example.com", "é***@example.com"},
		{"two at signs", ChannelEmail, `"a@b"@example.com`, `"***@example.com`},
		{"no domain", ChannelEmail, "ann@", "***"},
		{"no local part", ChannelEmail, "@example.com", "***"},
		{"a list", ChannelEmail, "ann@example.com, bob@example.com", "a***@example.com"},
		{"a name with it", ChannelEmail, "Ann <ann@example.com>", "***"},
		{"a line break", ChannelEmail, "a\nb@example.com", "***"},
		{"a URL", ChannelWebhook, "https://user:pass@example.com:8443/secret?token=1#x", "https://example.com:8443"},
		{"the URL of a request", ChannelHTTP, "https://example.com/secret?api_secret=1", "https://example.com"},
		{"another scheme", ChannelWebhook, "ftp://example.com/x", "***"},
		{"no URL", ChannelWebhook, "example.com/x", "***"},
		{"an unreadable URL", ChannelWebhook, "https://exa mple.com/x", "***"},
		{"a channel without recipients", ChannelLog, "ann@example.com", "***"},
		{"a number on another channel", ChannelEmail, "+15550100112", "***"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Mask(tt.ch, tt.recipient); got != tt.want {
				t.Errorf("Mask(%s, %q) = %q, want %q", tt.ch, tt.recipient, got, tt.want)
			}
		})
	}
}

func TestMaskText(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"nothing to hide", "550 5.7.26 unauthenticated mail is prohibited", "550 5.7.26 unauthenticated mail is prohibited"},
		{"codes stay", "status 503, code 21211", "status 503, code 21211"},
		{"an IPv4 address stays", "dial tcp 192.168.100.200:8443: connection refused", "dial tcp 192.168.100.200:8443: connection refused"},
		{"an address", "550 <ann.smith@example.com> unknown", "550 <a***@example.com> unknown"},
		{"a quoted address", `550 "ann smith"@example.com unknown`, `550 a***@example.com unknown`},
		{"an address with two at signs", "ann@smith@example.com", "a***@example.com"},
		{"an encoded address", "to=ann%40example.com", "t***@example.com"},
		{"two addresses", "ann@example.com,bob@example.com", "a***@example.com,b***@example.com"},
		{"a number", "The 'To' number +15550100112 is not valid", "The 'To' number ***12 is not valid"},
		{"an encoded number", "To=%2B15550100112", "To=%2B***12"},
		{"a number in groups", "call +1 (555) 010-0112 now", "call ***12 now"},
		{"a number in pairs", "call 01.55.50.10.01 now", "call ***01 now"},
		{"seven digits", "x5550112x", "x***12x"},
		{"six digits", "x555011x", "x555011x"},
		{"a URL", "Post https://user:pass@hooks.example.com/T0/secret?x=1#y: EOF", "Post https://hooks.example.com/… EOF"},
		{"a URL with only a query", "https://example.com?token=secret", "https://example.com/…"},
		{"a bare URL", "see https://example.com", "see https://example.com"},
		{"another scheme", "postgres://u:secret@db.example.com:5432/app failed", "postgres://db.example.com:5432/… failed"},
		{"a query without its host", "GET /2010/Messages?To=secret failed", "GET /2010/Messages?… failed"},
		{"control characters", "a\r\nb\x1b[31m\x00c\u202e\u2028d", "a  b [31m c  d"},
		{"not UTF-8", "a\xffb", "a\uFFFDb"},
		{"long", strings.Repeat("é", 501), strings.Repeat("é", 499) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := MaskText(tt.in); got != tt.want {
				t.Errorf("MaskText(%q)\n= %q\nwant %q", tt.in, got, tt.want)
			}
		})
	}
}

// A text that is cut must not end in a half of something that was hidden as a
// whole.
func TestMaskTextCutsWholeWords(t *testing.T) {
	for n := 16<<10 - 320; n < 16<<10; n += 5 {
		in := "https://example.com/" + strings.Repeat("x", n) + " " + "canary.canary.canary@example.com"
		if got := MaskText(in); strings.Contains(got, "canary") {
			t.Fatalf("with %d bytes before it: %q", n, got)
		}
	}
}

func FuzzMaskText(f *testing.F) {
	f.Add("before ", " after")
	f.Add("<", ">")
	f.Add("https://user:", "@example.com/")
	f.Add("https://a/", "")
	f.Add("\"", "\"")
	f.Add("1", "1")
	f.Add("+1 (", ") 2")
	f.Add("%40", "@x")
	f.Add(strings.Repeat("x ", 300), strings.Repeat(" y", 9000))
	f.Fuzz(func(t *testing.T, before, after string) {
		const name, number = "qzcanaryzq", "4747474747"
		for _, secret := range []string{
			name + "@example.com",
			"x" + name + "%40example.com",
			"https://example.com/" + name,
			"https://" + name + "@example.com",
			"https://example.com?" + name,
			number,
			"+1 (474) 747-4747",
		} {
			got := MaskText(before + secret + after)
			// The first letter of an address stays.
			if strings.Contains(got, name[1:]) || strings.Contains(got, number) || strings.Contains(got, "747-4747") {
				t.Errorf("MaskText(%q) = %q", before+secret+after, got)
			}
			if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxMasked {
				t.Errorf("MaskText(%q) is %d runes, valid %t", before+secret+after, utf8.RuneCountInString(got), utf8.ValidString(got))
			}
			if i := strings.IndexFunc(got, unicode.IsControl); i >= 0 {
				t.Errorf("control character in %q", got)
			}
		}
	})
}
