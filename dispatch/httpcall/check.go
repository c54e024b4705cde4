package httpcall

import "context"

// Check gets an access token for the credential name, and keeps it. asked is false
// where there is nothing to try: the credential is none of OAuth2, or has a refresh
// token, which some servers take only once. The error says what is wrong without a
// secret; it is from where the credential is set that its variables are known.
func (s *Sender) Check(ctx context.Context, name string) (asked bool, err error) {
	c := (*s.credentials.Load())[name]
	if c == nil || c.tokens == nil || c.OAuth2.RefreshToken != "" {
		return false, nil
	}
	if _, _, e := c.tokens.get(ctx); e != nil {
		return true, e.Err
	}
	return true, nil
}
