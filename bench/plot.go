package bench

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"
)

// A bar is one line of a picture.
type bar struct {
	label       string
	unit        string
	value       float64
	least, most float64 // over the rounds
	ours        bool    // drawn in the stronger colour
}

// bars are the figures of a result that are to be drawn: those of the unit of
// the first.
func (res *result) bars() []bar {
	var out []bar
	for _, f := range res.figures {
		if f.plain || len(f.values) == 0 || len(out) > 0 && f.unit != out[0].unit {
			continue
		}
		out = append(out, bar{
			label: f.label,
			unit:  f.unit,
			value: median(f.values),
			least: percentile(f.values, 0),
			most:  percentile(f.values, 100),
			ours:  strings.HasPrefix(f.label, ours),
		})
	}
	return out
}

// ours begins the labels of what the listener did.
const ours = "listener"

// Measures of a picture, in pixels.
const (
	plotWidth  = 720
	plotTop    = 40
	plotRow    = 30
	plotBar    = 18
	plotLetter = 7   // about the width of a letter
	plotBeside = 150 // for the value, right of the longest bar
)

// plot draws bars from zero, each with its value and a line from the least to
// the most. The picture follows the reader's choice of a light or dark theme.
func plot(title string, bars []bar) string {
	left, largest := 0, 0.0
	for _, b := range bars {
		left = max(left, utf8.RuneCountInString(b.label)*plotLetter+16)
		largest = max(largest, b.most)
	}
	if largest <= 0 {
		largest = 1
	}
	scale := float64(plotWidth-left-plotBeside) / largest
	height := plotTop + len(bars)*plotRow + 8

	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>
.page{fill:#fff}.text{fill:#1f2328;font:13px system-ui,sans-serif}.title{font-weight:600}.end{text-anchor:end}
.ours{fill:#1f6feb}.others{fill:#afb8c1}.range{stroke:#1f2328;stroke-width:1.5}
@media (prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#e6edf3}.ours{fill:#58a6ff}.others{fill:#6e7681}.range{stroke:#e6edf3}}
</style>
<rect class="page" width="%[1]d" height="%[2]d"/>
<text class="text title" x="12" y="24">%[5]s</text>
`, plotWidth, height, plotWidth, height, html.EscapeString(sentence(title)))
	for i, b := range bars {
		top := plotTop + i*plotRow
		middle := float64(top) + plotBar/2.0
		class := "others"
		if b.ours {
			class = "ours"
		}
		width := max(b.value, 0) * scale
		fmt.Fprintf(&s, `<text class="text end" x="%d" y="%.1f">%s</text>`, left-8, middle+4.5, html.EscapeString(b.label))
		fmt.Fprintf(&s, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, left, top, max(width, 1), plotBar)
		end := max(b.value, 0)
		if b.most > b.least {
			end = max(b.most, 0)
			fmt.Fprintf(&s, `<line class="range" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`,
				float64(left)+max(b.least, 0)*scale, middle, float64(left)+end*scale, middle)
		}
		fmt.Fprintf(&s, `<text class="text" x="%.1f" y="%.1f">%s</text>`+"\n",
			float64(left)+end*scale+8, middle+4.5, html.EscapeString(strings.TrimSpace(number(b.value)+" "+b.unit)))
	}
	s.WriteString("</svg>\n")
	return s.String()
}
