package render

import "testing"

func BenchmarkExecute(b *testing.B) {
	const data = `{"quote": {"first_name": "Ann", "total": 1234.50, "share_token": "abc", "expires_at": "2026-01-05T20:04:00+00:00"},
		"payload": {"services": ["roof", "gutters"]}, "link": "https://example.com/quote/abc"}`
	for _, bm := range []struct {
		name, source string
		html         bool
	}{
		{"fixed", "Your quote is ready", false},
		{"path", "{{.quote.first_name}}", false},
		{"sms", "Hi {{.quote.first_name | default \"there\"}}, your quote: {{money .quote.total}} {{.link}}", false},
		{"mail", "Hi {{.quote.first_name}},\n{{range .payload.services}}- {{title .}}\n{{end}}Total {{money .quote.total}}, until {{datetime .quote.expires_at}}.\n{{.link}}\n", false},
		{"html", `<p>Hi {{.quote.first_name}},</p><p><a href="{{.link}}">Total {{money .quote.total}}</a></p>`, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			load := testSet(b).Text
			if bm.html {
				load = testSet(b).HTML
			}
			tmpl, err := load("x", bm.source)
			if err != nil {
				b.Fatal(err)
			}
			scope := scope(b, data)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tmpl.Execute(scope); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := testSet(b).Text("x", "Hi {{.quote.first_name}}, your quote: {{money .quote.total}} {{.link}}"); err != nil {
			b.Fatal(err)
		}
	}
}
