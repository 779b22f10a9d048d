"""Running a plan: `runner` asks the store, `local` computes what it lacks, and studies get a `Context`."""
