"""Where the tools meet, one module a tool: the command line, Dagster, DVC, MLflow, Great Expectations."""
