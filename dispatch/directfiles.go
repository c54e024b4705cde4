package dispatch

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// fileKeys are the keys of an attachment in the payload of an email.send.
var fileKeys = keys{"name, content and optionally type", map[string]string{
	"filename": "name", "file": "name", "title": "name",
	"data": "content", "body": "content", "base64": "content", "contents": "content", "bytes": "content",
}}

// attachments reads the array of files under key, where there is one.
func (o *object) attachments(key string, to *[]Attachment) error {
	raw, ok := o.values[key]
	if !ok {
		return nil
	}
	if kindOf(raw) != "an array" {
		return fmt.Errorf("the key %q is %s; it has to be an array of objects with the keys %s", key, kindOf(raw), fileKeys.accepted)
	}
	var elems []json.RawMessage
	if err := json.Unmarshal(raw, &elems); err != nil {
		return err
	}
	for i, e := range elems {
		if kindOf(e) != "an object" {
			return fmt.Errorf("the key %q has %s at position %d; it has to be an array of objects with the keys %s", key, kindOf(e), i+1, fileKeys.accepted)
		}
		a, err := readAttachment(e)
		if err != nil {
			return fmt.Errorf("attachment %d of the key %q: %w", i+1, key, err)
		}
		*to = append(*to, a)
	}
	return nil
}

func readAttachment(raw json.RawMessage) (a Attachment, err error) {
	o, err := members(raw, fileKeys)
	if err != nil {
		return a, err
	}
	var content string
	err = o.read(
		o.text("name", &a.Name, required),
		o.text("type", &a.Type, optional),
		o.text("content", &content, required),
	)
	if err != nil {
		return a, err
	}
	// Line ends are skipped: Postgres' encode(…, 'base64') writes them.
	if a.Content, err = base64.StdEncoding.DecodeString(content); err != nil {
		return a, errors.New(`the key "content" is not base64; it has to be the file's bytes in the alphabet with "+" and "/", and padded with "="`)
	}
	return a, nil
}
