package devpg

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchable maps a major version to the release that is downloaded for it.
var fetchable = map[int]embeddedpostgres.PostgresVersion{
	13: embeddedpostgres.V13,
	14: embeddedpostgres.V14,
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

// fetchDefault is the major version that is downloaded when any will do: the
// one that the project's own tests run on.
const fetchDefault = 15

// fetch returns the folder with the programs of a downloaded Postgres of major
// version want (0 for any), after downloading it unless an earlier call did.
// A canceled ctx ends the wait; the download goes on unheard and cleans up.
func (f finder) fetch(ctx context.Context, want int) (string, error) {
	release, ok := fetchable[cmp.Or(want, fetchDefault)]
	if !ok {
		return "", fmt.Errorf("no download for Postgres %d", want)
	}
	cache := f.cache
	if cache == "" {
		var err error
		if cache, err = cacheDir(); err != nil {
			return "", err
		}
	}
	final := filepath.Join(cache, "postgres-"+string(release))
	bin := filepath.Join(final, "bin")
	if holdsPrograms(bin) {
		return bin, nil
	}
	if f.notes != nil {
		fmt.Fprintf(f.notes, "downloading Postgres %s to %s\n", release, final)
	}
	fetched := make(chan error, 1)
	go func() { fetched <- f.download(release, cache, final) }()
	select {
	case err := <-fetched:
		return bin, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// download puts the programs of release into folder final. It works in a
// folder beside it and renames that at the end, so that an interrupted or a
// concurrent download leaves nothing half-made.
//
// The library has no call that only downloads. Start downloads, extracts,
// clears the data folder, runs initdb and starts the server with pg_ctl; the
// last two would refuse root and leave an orphan behind a crash. A data folder
// that ends in a dot is one that os.RemoveAll refuses, so Start fails, always,
// right after extracting. What it left behind tells whether that much worked.
func (f finder) download(release embeddedpostgres.PostgresVersion, cache, final string) error {
	if err := f.account.mkdirs(cache); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	port, err := freePort()
	if err != nil {
		return err
	}
	extracted := filepath.Join(stage, "postgres")
	config := embeddedpostgres.DefaultConfig().
		Version(release).
		Port(uint32(port)). // Start wants it free
		CachePath(filepath.Join(stage, "archive")).
		BinariesPath(extracted).
		RuntimePath(filepath.Join(stage, "runtime")).
		DataPath(filepath.Join(stage, "data") + string(filepath.Separator) + ".").
		Logger(io.Discard)
	if f.repo != "" {
		config = config.BinaryRepositoryURL(f.repo)
	}
	err = embeddedpostgres.NewDatabase(config).Start()
	if !holdsPrograms(filepath.Join(extracted, "bin")) {
		return fmt.Errorf("fetch of Postgres %s for %s/%s: %w", release, runtime.GOOS, runtime.GOARCH, err)
	}
	if err := readableByAll(extracted); err != nil {
		return err
	}
	if err := os.Rename(extracted, final); err != nil && !holdsPrograms(filepath.Join(final, "bin")) {
		return err
	}
	return nil
}

// cacheDir returns the folder that keeps downloads: the user's own, and for
// root one that the server's account can enter.
func cacheDir() (string, error) {
	const name = "outbox-listener"
	if isRoot() {
		return filepath.Join("/var/cache", name), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep it in: %w", err)
	}
	return filepath.Join(dir, name), nil
}

// holdsPrograms reports whether both programs are in dir.
func holdsPrograms(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := os.Stat(program(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// readableByAll lets every account read what is in dir, whatever the umask
// was, since root downloads but does not run it.
func readableByAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// freePort returns a port that was free on 127.0.0.1 a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
