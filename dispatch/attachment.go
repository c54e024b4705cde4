package dispatch

import (
	"errors"
	"fmt"
	"mime"
	"strings"
)

// Limits of what goes with an e-mail. Many servers refuse messages beyond 25 MB,
// and base64 makes a third more of each file.
const (
	MaxAttachments     = 20
	MaxAttachmentBytes = 10 << 20 // of all files of an e-mail together, before base64
)

const (
	maxFileName  = 255 // bytes, which no usual file system exceeds
	maxMediaType = 200 // bytes, parameters included
)

// validateAttachments reports what is wrong with files, in a sentence that
// names the key and which of them it is.
func validateAttachments(files []Attachment) error {
	if len(files) > MaxAttachments {
		return fmt.Errorf(`the key "attachments" has %d files; at most %d are accepted`, len(files), MaxAttachments)
	}
	size := 0
	for i, f := range files {
		if err := f.validate(); err != nil {
			return fmt.Errorf(`attachment %d of the key "attachments" %w`, i+1, err)
		}
		size += len(f.Content)
	}
	if size > MaxAttachmentBytes {
		return fmt.Errorf(`the key "attachments" has files of %d bytes together; at most %d are accepted`, size, MaxAttachmentBytes)
	}
	return nil
}

// validate returns the end of a sentence that began with which file it is.
func (a Attachment) validate() error {
	switch {
	case strings.TrimSpace(a.Name) == "":
		return errors.New(`has an empty "name"; it has to be the name of a file, such as invoice.pdf`)
	case !headerSafe(a.Name):
		return errors.New(`has a line break or another control character in its "name"`)
	case strings.ContainsAny(a.Name, `/\`) || strings.Trim(a.Name, ".") == "":
		return errors.New(`has a path in its "name"; it has to be the name of a file alone, such as invoice.pdf`)
	case strings.ContainsFunc(a.Name, reorders):
		return errors.New(`has a character in its "name" that turns the direction of writing, so that another ending may show`)
	case len(a.Name) > maxFileName:
		return fmt.Errorf(`has a "name" of %d bytes; at most %d are accepted`, len(a.Name), maxFileName)
	case a.Type != "" && !mediaType(a.Type):
		return errors.New(`has a "type" that is not the media type of a file, such as application/pdf`)
	}
	return nil
}

// reorders reports whether r turns the direction in which what follows is
// shown, whatever its letters: gpj.exe may then look like exe.jpg.
func reorders(r rune) bool { return '\u202A' <= r && r <= '\u202E' || '\u2066' <= r && r <= '\u2069' }

// mediaType reports whether s may be the type of a file. Whole messages and
// what is made of parts may not: both cannot be sent in base64 (RFC 2046, 5.1
// and 5.2.1).
func mediaType(s string) bool {
	t, _, err := mime.ParseMediaType(s)
	if err != nil || len(s) > maxMediaType || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return false
	}
	kind, sub, ok := strings.Cut(t, "/")
	return ok && token(kind) && token(sub) && kind != "multipart" && kind != "message"
}
