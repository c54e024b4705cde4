package smtp

import (
	"mime"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/outbox-listener/outbox-listener/dispatch"
)

// anyBytes is the media type of what nothing is known about.
const anyBytes = "application/octet-stream"

// byEnding are the media types of files by the ending of their names. What the
// machine knows (mime.TypeByExtension) would make a message's bytes depend on
// where it is sent from.
var byEnding = map[string]string{
	".txt": "text/plain", ".log": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".tsv": "text/tab-separated-values",
	".htm": "text/html", ".html": "text/html", ".css": "text/css", ".ics": "text/calendar", ".vcf": "text/vcard",

	".json": "application/json", ".xml": "application/xml", ".yaml": "application/yaml", ".yml": "application/yaml",
	".pdf": "application/pdf", ".rtf": "application/rtf", ".zip": "application/zip", ".gz": "application/gzip",
	".pkpass": "application/vnd.apple.pkpass", ".epub": "application/epub+zip", ".p7s": "application/pkcs7-signature",

	".doc": "application/msword", ".xls": "application/vnd.ms-excel", ".ppt": "application/vnd.ms-powerpoint",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".odt":  "application/vnd.oasis.opendocument.text", ".ods": "application/vnd.oasis.opendocument.spreadsheet",

	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
	".svg": "image/svg+xml", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".heic": "image/heic", ".avif": "image/avif",

	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".wav": "audio/wav", ".ogg": "audio/ogg",
	".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
}

// mediaType returns the type of a, without a name: the one that it says, or
// that of its name's ending. Text whose letters are not said, and that may be
// UTF-8, is.
func mediaType(a dispatch.Attachment) string {
	if a.Type == "" {
		t, ok := byEnding[strings.ToLower(path.Ext(a.Name))]
		switch {
		case !ok:
			return anyBytes
		case strings.HasPrefix(t, "text/") && utf8.Valid(a.Content):
			return t + "; charset=UTF-8"
		}
		return t
	}
	t, params, err := mime.ParseMediaType(a.Type)
	if err != nil {
		return anyBytes
	}
	delete(params, "name") // ours follows
	if t = mime.FormatMediaType(t, params); t == "" {
		return anyBytes
	}
	return t
}
