"""What every room of a run uses: time, ledger, memory, failures, worker threads."""
