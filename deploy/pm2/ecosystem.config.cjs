// Outbox Listener under PM2. See docs/pm2.md.
//
//   pm2 start deploy/pm2/ecosystem.config.cjs && pm2 save

module.exports = {
  apps: [
    {
      name: "myst-outbox",
      script: "/usr/local/bin/listener",
      interpreter: "none", // it is a program, not a script for Node
      cwd: "/opt/mystos", // the .env there is read
      exec_mode: "fork",
      instances: 1,

      env: {
        OUTBOX_POLL_INTERVAL_MS: "5000",
      },

      // A stop is SIGINT, and SIGKILL after this time. The listener takes at
      // most 50 s: OUTBOX_SHUTDOWN_GRACE (40 s) and 5 s on either side of it.
      kill_timeout: 60000,

      // After a crash: again after 0.1 s, then later and later, up to 15 s.
      autorestart: true,
      exp_backoff_restart_delay: 100,
      stop_exit_codes: [2], // the command line is wrong: a restart would not help

      merge_logs: true,
    },
  ],
};
