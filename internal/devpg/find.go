package devpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldest is the oldest Postgres major version that is used.
const oldest = 13

// binEnv names the variable with the folder that holds initdb and postgres.
const binEnv = "OUTBOX_DEV_PG_BIN"

// usualFolders are the patterns of where packages put the server's programs.
// Versions at one pattern are tried highest first.
var usualFolders = map[string][]string{
	"linux": {
		"/usr/lib/postgresql/*/bin",     // Debian, Ubuntu
		"/usr/pgsql-*/bin",              // RHEL, Fedora (postgresql.org packages)
		"/usr/lib/postgresql[0-9]*/bin", // SUSE
		"/usr/libexec/postgresql*",      // Alpine
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	},
	"darwin": {
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	},
	"windows": {
		`C:\Program Files\PostgreSQL\*\bin`,
	},
}

// Find returns the folder that holds initdb and postgres, and their major
// version, at least 13. It looks at OUTBOX_DEV_PG_BIN, which is final when it
// is set, then along PATH, then where packages usually put them. When none has
// them it downloads them once, into a folder of the caller's own cache.
//
// The error names every place that was looked at and what to do about it.
func Find() (binDir string, version int, err error) {
	who, err := serverAccount("")
	if err != nil {
		return "", 0, err
	}
	return finder{account: who}.find(context.Background(), 0)
}

// A finder looks for the server's programs on behalf of account, which must be
// able to run them.
type finder struct {
	account *account
	notes   io.Writer // told about a download; nil for silence
	repo    string    // where to download from; "" for Maven Central
	folders []string  // patterns to use in place of usualFolders
	cache   string    // folder for downloads, in place of cacheDir's
}

// find returns programs of major version want, or of any version if it is 0.
func (f finder) find(ctx context.Context, want int) (string, int, error) {
	var looked []string
	other := 0 // a version that was found but is not the wanted one
	try := func(dir string) (int, bool) {
		version, err := f.check(ctx, dir)
		switch {
		case errors.Is(err, errAbsent):
			return 0, false
		case err != nil:
			looked = append(looked, err.Error())
		case want != 0 && version != want:
			other = cmp.Or(other, version)
		default:
			return version, true
		}
		return 0, false
	}

	if dir := os.Getenv(binEnv); dir != "" {
		version, err := f.check(ctx, dir)
		if err != nil {
			return "", 0, fmt.Errorf("%s=%s: %w", binEnv, dir, err)
		}
		if want != 0 && version != want {
			return "", 0, fmt.Errorf("%s=%s is Postgres %d, wanted is %d: %w", binEnv, dir, version, want, errOtherVersion{version})
		}
		return dir, version, nil
	}
	looked = append(looked, binEnv+": not set")

	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if version, ok := try(dir); ok {
			return dir, version, nil
		}
	}
	looked = append(looked, "PATH: no folder with both")

	folders := f.folders
	if folders == nil {
		folders = usualFolders[runtime.GOOS]
	}
	for _, pattern := range folders {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", 0, fmt.Errorf("pattern %s: %w", pattern, err)
		}
		slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(versionInPath(b), versionInPath(a)) })
		for _, dir := range dirs {
			if version, ok := try(dir); ok {
				return dir, version, nil
			}
		}
		looked = append(looked, pattern+": nothing that fits")
	}
	if other != 0 {
		return "", 0, fmt.Errorf("found Postgres %d, wanted is %d: %w", other, want, errOtherVersion{other})
	}

	if err := ctx.Err(); err != nil {
		return "", 0, err // nothing was looked at properly, so nothing is missing
	}
	dir, err := f.fetch(ctx, want)
	if err == nil {
		var version int
		if version, err = f.check(ctx, dir); err == nil {
			return dir, version, nil
		}
	}
	looked = append(looked, "download: "+err.Error())
	wanted := fmt.Sprintf("Postgres %d", want)
	if want == 0 {
		wanted = fmt.Sprintf("Postgres %d or later", oldest)
	}
	return "", 0, fmt.Errorf("no initdb and postgres of %s found: install the package postgresql, or set %s to their folder. Looked at:\n  %s",
		wanted, binEnv, strings.Join(looked, "\n  "))
}

// errOtherVersion says that programs were found, of a version that does not fit.
type errOtherVersion struct{ found int }

func (e errOtherVersion) Error() string { return "another major version" }

// errAbsent says that a folder does not hold initdb and postgres.
var errAbsent = errors.New("does not hold initdb and postgres")

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// check returns the major version of the programs in dir. It fails with
// errAbsent when one is missing.
func (f finder) check(ctx context.Context, dir string) (int, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(program(dir, name)); err != nil || info.IsDir() {
			return 0, errAbsent
		}
	}
	if err := f.account.reaches(dir); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", program(dir, "postgres"), err)
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%s --version: no version in %q", program(dir, "postgres"), out)
	}
	version, err := strconv.Atoi(string(match[1]))
	if err != nil || version < oldest {
		return 0, fmt.Errorf("%s: Postgres %s is older than %d", dir, match[1], oldest)
	}
	return version, nil
}

// program returns the path of a program in dir.
func program(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

var dottedNumber = regexp.MustCompile(`(\d+)[\d.]*`)

// versionInPath returns the last number in path up to its dot, or 0.
func versionInPath(path string) int {
	all := dottedNumber.FindAllStringSubmatch(path, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return 0
	}
	return n
}
