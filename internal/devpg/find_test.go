//go:build unix

package devpg

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fake puts programs into dir that only tell their version.
func fake(t *testing.T, dir, version string) string {
	t.Helper()
	return script(t, dir, fmt.Sprintf("echo 'postgres (PostgreSQL) %s (fake)'", version))
}

// script puts an initdb and a postgres into dir that run one line of shell, in
// which $name is their name.
func script(t *testing.T, dir, line string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		text := "#!/bin/sh\nname=" + name + "\n" + line + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newFinder(t *testing.T, folders ...string) finder {
	t.Helper()
	who, err := serverAccount("")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", folder(t)) // the library leaves a file there
	return finder{account: who, folders: folders, cache: filepath.Join(folder(t), "cache"), repo: "http://127.0.0.1:1"}
}

func TestFindOrder(t *testing.T) {
	root := folder(t)
	t.Setenv(binEnv, "")
	t.Setenv("PATH", os.Getenv("PATH"))
	for _, version := range []string{"9.6", "12.1", "13.2", "14.20", "16.1"} {
		fake(t, filepath.Join(root, "usual", version, "bin"), version)
	}
	usual := filepath.Join(root, "usual", "*", "bin")
	onPath := fake(t, filepath.Join(root, "path"), "15beta2")
	chosen := fake(t, filepath.Join(root, "chosen"), "17.5")
	half := filepath.Join(root, "half")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(chosen, "postgres"), filepath.Join(half, "postgres")); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(root, "usual", "12.1", "bin")
	list := func(dirs ...string) string { return strings.Join(dirs, string(filepath.ListSeparator)) }

	for _, tt := range []struct {
		name, env, path string
		want            int    // version asked for
		dir             string // relative to root
		version         int
		err             string
	}{
		{"the variable is first", chosen, onPath, 0, "chosen", 17, ""},
		{"then the path", "", list(half, onPath), 0, "path", 15, ""},
		{"then the usual folders, highest first", "", half, 0, "usual/16.1/bin", 16, ""},
		{"too old on the path is passed over", "", old, 0, "usual/16.1/bin", 16, ""},
		{"one version only", "", onPath, 14, "usual/14.20/bin", 14, ""},
		{"one version, on the path", "", onPath, 15, "path", 15, ""},
		{"no such version", "", onPath, 18, "", 0, "found Postgres 15, wanted is 18"},
		{"the variable is final", half, onPath, 0, "", 0, "does not hold initdb and postgres"},
		{"and its version too", chosen, onPath, 15, "", 0, "is Postgres 17, wanted is 15"},
		{"and so is its age", old, onPath, 0, "", 0, "older than 13"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(binEnv, tt.env)
			t.Setenv("PATH", tt.path)
			dir, version, err := newFinder(t, usual).find(t.Context(), tt.want)
			if tt.err != "" {
				wantError(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rel, _ := filepath.Rel(root, dir); rel != tt.dir || version != tt.version {
				t.Errorf("%s, version %d; want %s, version %d", rel, version, tt.dir, tt.version)
			}
		})
	}
}

func TestFindNothing(t *testing.T) {
	root := folder(t)
	t.Setenv(binEnv, "")
	old := fake(t, filepath.Join(root, "old"), "12.1")
	t.Setenv("PATH", old)
	_, _, err := newFinder(t, "/nowhere/*/bin").find(t.Context(), 0)
	wantError(t, err, "install the package postgresql", binEnv+" to their folder", // the mend
		binEnv+": not set", "PATH", old+": Postgres 12 is older than 13", "/nowhere/*/bin", "download: ", "127.0.0.1:1")
}

func TestFindUnreachable(t *testing.T) {
	if !isRoot() {
		t.Skip("an ordinary user runs the server as itself")
	}
	root := folder(t)
	bin := fake(t, filepath.Join(root, "private", "bin"), "15.1")
	if err := os.Chmod(filepath.Join(root, "private"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(binEnv, bin)
	_, _, err := newFinder(t).find(t.Context(), 0)
	wantError(t, err, "may not enter", filepath.Join(root, "private"))

	_, err = Start(t.Context(), Options{DataDir: filepath.Join(root, "private", "data")})
	wantError(t, err, "may not enter", filepath.Join(root, "private"))
}

// Being stopped is no reason to download what is installed.
func TestFindCanceled(t *testing.T) {
	t.Setenv(binEnv, "")
	t.Setenv("PATH", fake(t, filepath.Join(folder(t), "bin"), "15.1"))
	repo := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked for %s", r.URL)
	}))
	defer repo.Close()
	f := newFinder(t, "/nowhere")
	f.repo = repo.URL
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.find(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestFetch downloads an archive from a local repository, whose programs hand
// over to the installed ones, and starts a server with it.
func TestFetch(t *testing.T) {
	t.Setenv(binEnv, os.Getenv(binEnv))
	real, version, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	downloads := 0
	archive := jar(t, script(t, filepath.Join(folder(t), "bin"), `exec "`+real+`/$name" "$@"`))
	sum := sha256.Sum256(archive)
	repo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.Contains(r.URL.Path, "/"+strconv.Itoa(version)+"."):
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			fmt.Fprint(w, hex.EncodeToString(sum[:]))
		default:
			downloads++
			w.Write(archive)
		}
	}))
	defer repo.Close()
	t.Setenv(binEnv, "")
	t.Setenv("PATH", "/nowhere")

	var notes bytes.Buffer
	f := newFinder(t, "/nowhere")
	f.repo, f.notes = repo.URL, &notes
	for range 2 { // the second time it is there already
		bin, got, err := f.find(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		if got != version || !strings.HasPrefix(bin, f.cache) {
			t.Errorf("%s, version %d; want one in %s of version %d", bin, got, f.cache, version)
		}
		if downloads != 1 || strings.Count(notes.String(), "\n") != 1 {
			t.Errorf("%d downloads, told %q", downloads, notes.String())
		}
		if left, _ := filepath.Glob(filepath.Join(f.cache, "fetch-*")); left != nil {
			t.Errorf("left behind: %s", left)
		}
		t.Setenv(binEnv, bin)
		start(t, Options{})
		t.Setenv(binEnv, "")
	}

	_, _, err = f.find(t.Context(), 99)
	wantError(t, err, "no download for Postgres 99")
	sum[0]++
	f.cache = filepath.Join(folder(t), "cache")
	_, _, err = f.find(t.Context(), version)
	wantError(t, err, "download: ", "checksums do not match")
}

// jar packs a folder as the repository does: a zip file with a .txz in it.
func jar(t *testing.T, dir string) []byte {
	t.Helper()
	var packed bytes.Buffer
	tw := tar.NewWriter(&packed)
	if err := tw.AddFS(os.DirFS(filepath.Dir(dir))); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zw := zip.NewWriter(&out)
	w, err := zw.Create("postgres-fake.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(xz(packed.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// xz wraps data in the .xz format without compressing it: one block of LZMA2
// chunks of the stored kind.
func xz(data []byte) []byte {
	le := binary.LittleEndian
	sum := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

	flags := []byte{0, 1} // checks are CRC-32
	out := append([]byte("\xfd7zXZ\x00"), flags...)
	out = append(out, sum(flags)...)

	head := []byte{2, 0, 0x21, 1, 22, 0, 0, 0} // one filter: LZMA2, 8 MiB
	block := append(head, sum(head)...)
	kind := byte(1) // stored, dictionary reset
	for rest := data; len(rest) > 0; kind = 2 {
		n := min(len(rest), 1<<16)
		block = append(block, kind, byte((n-1)>>8), byte(n-1))
		block = append(block, rest[:n]...)
		rest = rest[n:]
	}
	block = append(block, 0)
	size := len(block) + 4 // with its check, without padding
	out = append(append(out, pad(block)...), sum(data)...)

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(size))
	index = binary.AppendUvarint(index, uint64(len(data)))
	index = pad(index)
	index = append(index, sum(index)...)
	out = append(out, index...)

	foot := le.AppendUint32(nil, uint32(len(index)/4-1))
	foot = append(foot, flags...)
	out = append(append(out, sum(foot)...), foot...)
	return append(out, "YZ"...)
}
