// Command listener delivers the events of an outbox table: SMS, e-mails,
// webhooks. See listener --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // routes name time zones, and the machine may have none

	"github.com/alecthomas/kong"

	"github.com/outbox-listener/outbox-listener/listener/operate"
)

// Exit codes.
const (
	exitOK          = 0
	exitCannot      = 1   // it could not run
	exitUsage       = 2   // the command line is wrong
	exitFailures    = 3   // it ran, and something was not delivered, or is wrong
	exitInterrupted = 130 // a second signal cut the stop short
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more is no reason to stop
	if os.Getenv("GOGC") == "" {
		// What a drain allocates is short-lived and what it keeps is small:
		// collecting less often costs some 40 MB and saves a tenth of its time.
		debug.SetGCPercent(300)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel() // stop in order
		<-signals
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// cli is the command line.
type cli struct {
	EnvFile string `name:"env-file" placeholder:"PATH" help:"Read this environment file, in place of .env in the working directory. It has to exist."`
	Version bool   `help:"Print the version and exit."`

	Run     runCmd     `cmd:"" default:"withargs" hidden:"" help:"Deliver events."`
	Dev     devCmd     `cmd:"" help:"Try it on this machine, with nothing to configure: a private Postgres, stand-ins for the providers, and sample events."`
	Migrate migrateCmd `cmd:"" help:"Create what the listener needs in the database, or bring it up to date."`
	Bench   benchCmd   `cmd:"" help:"Measure this program on this machine, beside others that do the same work, and write a report."`
	Preview previewCmd `cmd:"" help:"Show what an event becomes: recipients, times, content, or why nothing is sent. Nothing is sent or written."`
	Routes  routesCmd  `cmd:"" help:"Work on the routes file: test it, print its JSON Schema."`
	Check   checkCmd   `cmd:"" help:"Check the configuration, the routes against the database, and the providers. Nothing is sent or written."`
	Config  configCmd  `cmd:"" help:"Print the configuration: every variable with its value and where that comes from. Secrets are not shown."`

	Deliveries deliveriesCmd `cmd:"" help:"List deliveries: what failed, what waits, and why. Recipients are masked."`
	Lines      linesCmd      `cmd:"" help:"List what waits for its turn behind what has the same ordering_key."`
	Replay     replayCmd     `cmd:"" help:"Send deliveries again that are over: dead ones, unless others are named."`
	Cancel     cancelCmd     `cmd:"" help:"Withdraw deliveries that are not over."`
	Hold       holdCmd       `cmd:"" help:"Keep deliveries from being sent, until they are released."`
	Release    releaseCmd    `cmd:"" help:"Send deliveries that are held, under the ids that they have."`
	Pause      pauseCmd      `cmd:"" help:"Send nothing of a type or on a channel until it is resumed, or list what is paused."`
	Resume     resumeCmd     `cmd:"" help:"Send again what was paused."`
}

// run is the program without its surroundings: args is the command line
// without the program's name, environ has the form of os.Environ. It returns
// the exit code once everything is done, or soon after ctx ended.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var c cli
	exited := false // kong has done it all: --help
	parser, err := kong.New(&c,
		kong.Name("listener"),
		kong.Description("Deliver the events of public.outbox_events: SMS, e-mails, webhooks."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }),
		kong.Help(printHelp),
		helpVars(),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintf(stderr, "listener: %v\n", err)
		return exitCannot
	}
	kctx, err := parser.Parse(args)
	switch {
	case exited:
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "listener: %s\nSee listener --help.\n", oneLine(maskWords(strings.TrimPrefix(err.Error(), "run: "))))
		return exitUsage
	case c.Version:
		fmt.Fprintf(stdout, "listener %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	}

	command, _, _ := strings.Cut(kctx.Command(), " ")
	switch command { // what reads no configuration
	case "dev":
		return runDev(ctx, c.Dev, stdout, stderr)
	case "routes":
		if strings.HasPrefix(kctx.Command(), "routes schema") {
			return printSchema(stdout)
		}
	case "bench":
		return runBench(ctx, &c.Bench, args, stdout, stderr)
	}
	s, err := readSettings(environ, c.EnvFile)
	if err != nil {
		fmt.Fprintf(stderr, "listener: %s\n", oneLine(err.Error()))
		return exitCannot
	}
	switch command {
	case "migrate":
		return migrate(ctx, &c.Migrate, s, stdout, stderr)
	case "check":
		return runCheck(ctx, c.Check, s, stdout, stderr)
	case "config":
		return runConfig(c.Config, s, stdout, stderr)
	case "deliveries":
		return runDeliveries(ctx, &c.Deliveries, s, stdout, stderr)
	case "lines":
		return runLines(ctx, &c.Lines, s, stdout, stderr)
	case "replay":
		return runChange(ctx, c.Replay.request(), &c.Replay.changeFlags, s, stdout, stderr)
	case "cancel":
		return runChange(ctx, operate.Request{Action: operate.Cancel}, &c.Cancel.changeFlags, s, stdout, stderr)
	case "hold":
		return runChange(ctx, operate.Request{Action: operate.Hold}, &c.Hold.changeFlags, s, stdout, stderr)
	case "release":
		return runChange(ctx, operate.Request{Action: operate.Release, EvenUncertain: c.Release.EvenUncertain}, &c.Release.changeFlags, s, stdout, stderr)
	case "pause":
		return runPause(ctx, operate.Pause, &c.Pause.pauseFlags, s, stdout, stderr)
	case "resume":
		return runPause(ctx, operate.Resume, &c.Resume.pauseFlags, s, stdout, stderr)
	case "preview":
		return runPreview(ctx, &c.Preview, s, stdout, stderr)
	case "routes":
		return runRoutesTest(ctx, c.Routes.Test, s, stdout, stderr)
	default:
		return runListener(ctx, c.Run, s, stdout, stderr)
	}
}

// migrate runs the migrate command on the configured database. The rest of
// the configuration is not its business.
func migrate(ctx context.Context, cmd *migrateCmd, s settings, stdout, stderr io.Writer) int {
	cfg, problems := readDatabaseConfig(s)
	if len(problems) > 0 {
		return complain(stderr, problems)
	}
	url := cfg.DatabaseURL.Reveal()
	if url != "" && cfg.DatabaseSSL {
		url = withTLS(url)
	}
	if err := runMigrate(ctx, cmd, url, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "listener: %v\n", err)
		return exitCannot
	}
	return exitOK
}

// readDatabaseConfig reads the configuration for a command that needs the database
// alone: what is wrong with the rest is not its business.
func readDatabaseConfig(s settings) (*config, configError) {
	cfg, all := readConfig(s)
	var problems configError
	for _, p := range all {
		if p.name == "DATABASE_URL" && p.value != "" || p.name == "DATABASE_SSL" {
			problems = append(problems, p)
		}
	}
	return cfg, problems
}

// version is what the build recorded, or "devel".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	return v
}

// maskWords hides the passwords of URLs in a text, such as a command line
// that somebody mistyped.
func maskWords(text string) string {
	for _, word := range strings.Fields(text) {
		text = strings.ReplaceAll(text, word, maskURL(word))
	}
	return text
}

// printHelp prints the help of the command that was named. Without one, it is
// that of the whole program.
func printHelp(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() != nil {
		return kong.DefaultHelpPrinter(options, ctx)
	}
	var flags, commands strings.Builder
	var deliver *kong.Node
	for _, node := range ctx.Model.Children {
		if node == ctx.Model.DefaultCmd {
			deliver = node
			continue
		}
		commands.WriteString(helpLines(node.Name, node.Help))
	}
	if deliver == nil {
		return errors.New("no default command")
	}
	for _, f := range append(append([]*kong.Flag{}, deliver.Flags...), ctx.Model.Flags...) {
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		flags.WriteString(helpLines(name, f.Help))
	}
	_, err := fmt.Fprintf(ctx.Stdout, rootHelp, ctx.Model.Help, flags.String(), commands.String())
	return err
}

const rootHelp = `Usage: listener [flags]
       listener <command> [flags]

%s

Without a command it delivers. OUTBOX_POLL_INTERVAL_MS decides how:
  above 0      as a daemon, until it is stopped
  0 or unset   one batch of at most OUTBOX_BATCH_SIZE events; prints the counts
               as JSON and exits 0, also where some were not delivered
  --once       whatever that variable says: batch after batch until nothing is due

Flags:
%s
Commands:
%s
It is configured by environment variables, by .env in the working directory
under them, and by defaults under those. Needed is DATABASE_URL; "listener config"
prints them all. The daemon logs to stdout, the other modes to stderr.

Ctrl-C and SIGTERM stop it in order: what is being sent is finished, the rest is
given back. A second one stops it at once.

Exit codes: 0 done, 1 could not run, 2 wrong command line, 3 ran with --once and
something was not delivered, or check found problems, 130 stopped at once.

Run "listener <command> --help" for the flags of a command.
`

// helpLines is one entry of a list in the help: name, and its text beside it
// in lines of 80 letters.
func helpLines(name, text string) string {
	const indent, width = 22, 80
	var b strings.Builder
	line := fmt.Sprintf("  %-*s", indent-2, name)
	if len(line) > indent {
		b.WriteString(line + "\n")
		line = strings.Repeat(" ", indent)
	}
	for _, word := range strings.Fields(text) {
		if len(line)+len(word) >= width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = strings.Repeat(" ", indent)
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}
