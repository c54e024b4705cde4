package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ownNode returns the Node that a peer's folder has among its packages, which
// its package.json pins where npm has one for this system; "" without it, and
// the machine's own has to do.
func ownNode(dir string) string {
	system, arch, program := runtime.GOOS, runtime.GOARCH, "node"
	if system == "windows" {
		system, program = "win", "node.exe"
	}
	if arch == "amd64" {
		arch = "x64"
	}
	path := filepath.Join(dir, "node_modules", "node-"+system+"-"+arch, "bin", program)
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return ""
	}
	return path
}

// packageJSON is what is of interest in a file of that name.
type packageJSON struct {
	Dependencies map[string]string
	Engines      struct{ Node string }
}

func readPackage(dir string) (p packageJSON, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// nodeTooOld says which of the packages that the peer in dir names declare, in
// "engines", a newer Node than version, such as v22.18.0; "" for none.
func nodeTooOld(dir, version string) (string, error) {
	own, err := readPackage(dir)
	if err != nil {
		return "", err
	}
	var short []string
	for _, name := range slices.Sorted(maps.Keys(own.Dependencies)) {
		p, err := readPackage(filepath.Join(dir, "node_modules", filepath.FromSlash(name)))
		if err != nil {
			return "", err
		}
		if least, ok := leastNode(p.Engines.Node); ok && olderNode(version, least) {
			short = append(short, fmt.Sprintf("%s declares Node %s, it has %s", name, p.Engines.Node, version))
		}
	}
	return strings.Join(short, "; "), nil
}

// leastNode returns the version of "engines" where that is of the form
// ">=22.18.0", with or without spaces; others say nothing that is looked at.
func leastNode(engines string) (string, bool) {
	least, ok := strings.CutPrefix(strings.TrimSpace(engines), ">=")
	least = strings.TrimSpace(least)
	return least, ok && !strings.ContainsAny(least, " |<>")
}

// olderNode reports whether version comes before least. Numbers that are left
// out are 0.
func olderNode(version, least string) bool {
	numbers := func(s string) []int {
		all := make([]int, 3)
		for i, part := range strings.SplitN(strings.TrimPrefix(s, "v"), ".", 3) {
			part, _, _ = strings.Cut(part, "-")
			all[i], _ = strconv.Atoi(part) // what is none counts as 0
		}
		return all
	}
	return slices.Compare(numbers(version), numbers(least)) < 0
}
