package bench

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestPlot(t *testing.T) {
	t.Parallel()
	bars := sample().bars()
	if len(bars) != 2 {
		t.Fatalf("%d bars: the detail of another unit is not to be drawn", len(bars))
	}
	if b := bars[0]; !b.ours || b.value != 2000 || b.least != 1000 || b.most != 3000 {
		t.Errorf("the first bar is %+v", b)
	}
	bars[1].label = "<River & co>"
	got := plot("a backlog", bars)
	for _, want := range []string{
		">A backlog</text>", "&lt;River &amp; co&gt;", ">2,000 events/s</text>",
		`class="ours"`, `class="others"`, `class="range"`, "prefers-color-scheme:dark",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the picture lacks %q:\n%s", want, got)
		}
	}
	wellFormed(t, got)
}

// TestPlotOfNothing: zeros and negative values have bars too, of no length.
func TestPlotOfNothing(t *testing.T) {
	t.Parallel()
	got := plot("nothing", []bar{{label: "none"}, {label: "below", value: -1, least: -2, most: -1}})
	if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") || strings.Contains(got, `width="-`) {
		t.Errorf("the picture is\n%s", got)
	}
	wellFormed(t, got)
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}
