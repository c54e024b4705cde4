package dispatch

import "unicode/utf16"

// The alphabet of SMS, 3GPP TS 23.038 section 6.2.1: the default table, each
// character one septet, and the extension table, each an escape and a septet.
const (
	gsmBasic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtension = "\f^{}\\[~]|€"
)

// The encodings of SMS, as Segments names them.
const (
	GSM7 = "GSM-7"
	UCS2 = "UCS-2"
)

// gsmTable has how many septets each character takes. All of them are below 0x20b0.
var gsmTable = func() (units [0x20b0]uint8) {
	for _, r := range gsmBasic {
		units[r] = 1
	}
	for _, r := range gsmExtension {
		units[r] = 2
	}
	return units
}()

// gsmUnits is how many septets r takes; 0 means that it is not in the alphabet.
func gsmUnits(r rune) int {
	if int(r) >= len(gsmTable) {
		return 0
	}
	return int(gsmTable[r])
}

// Segments says how text goes out as an SMS: its encoding, its length in that
// encoding's units (septets of GSM-7, 16-bit units of UCS-2), and in how many
// segments, each of which is billed as a message. "" has none.
//
// One segment has room for 160 or 70 units; each of several for 153 or 67, since
// 6 octets go to the header that joins them (3GPP TS 23.040 section 9.2.3.24.1).
// No character is split between two. Twilio's replacement of typographic
// characters ("Smart Encoding") is not reckoned with.
func Segments(text string) (encoding string, units, segments int) {
	encoding, single, each := GSM7, 160, 153
	for _, r := range text {
		if gsmUnits(r) == 0 {
			encoding, single, each = UCS2, 70, 67
			break
		}
	}
	var used int // in the last segment, as long as there are several
	for _, r := range text {
		n := gsmUnits(r)
		if encoding == UCS2 {
			n = max(1, utf16.RuneLen(r))
		}
		units += n
		if segments == 0 || used+n > each {
			segments++
			used = 0
		}
		used += n
	}
	if units > 0 && units <= single {
		segments = 1
	}
	return encoding, units, segments
}
