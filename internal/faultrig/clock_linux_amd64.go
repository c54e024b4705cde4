package faultrig

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// canShiftClocks says whether a process may be given a wall clock of its own here.
const canShiftClocks = true

// beforeShift has cmd stop before its first instruction. Whoever starts it calls
// shiftClock then, on the same thread.
func beforeShift(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
}

// shiftClock gives the process, which is stopped at its start, a wall clock that
// is by off, and lets it go. Its monotonic clock stays as it is.
//
// Go asks the vDSO what time it is, which libfaketime does not come near, and time
// namespaces have no wall clock. So the process gets other code there: pages of the
// vDSO may be written by whoever traces it, as a debugger writes breakpoints, and
// what is written is seen by that process alone.
func shiftClock(pid int, by time.Duration) (err error) {
	defer func() { err = errors.Join(err, syscall.PtraceDetach(pid)) }()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("it did not stop at its start: %v", status)
	}
	base, size, err := vdsoOf(pid)
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer mem.Close()
	image := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(mem, base, int64(size)), image); err != nil {
		return err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return err
	}
	done := 0
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" && s.Name != "clock_gettime" {
			continue
		}
		if _, err := syscall.PtracePokeData(pid, uintptr(base)+uintptr(s.Value), shiftedClock(by)); err != nil {
			return err
		}
		done++
	}
	if done == 0 {
		return errors.New("its vDSO has no clock_gettime")
	}
	return nil
}

// shiftedClock is clock_gettime(2) as machine code, which adds whole seconds to
// CLOCK_REALTIME.
func shiftedClock(by time.Duration) []byte {
	code := []byte{
		0xB8, 0xE4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
		0x0F, 0x05, // syscall
		0x85, 0xFF, // test edi, edi (0 is CLOCK_REALTIME)
		0x75, 0x07, // jne to ret
		0x48, 0x81, 0x06, // add qword [rsi], seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(int32(by/time.Second)))
	return append(code, 0xC3) // ret
}

// vdsoOf returns where the vDSO of a process is.
func vdsoOf(pid int) (base int64, size int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, 0, err
		}
		return from, int(to - from), nil
	}
	return 0, 0, errors.New("it has no vDSO")
}
