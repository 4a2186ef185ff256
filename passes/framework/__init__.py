"""What every pass stands on: passes and their options, pipelines as text, instrumentation, pattern rewriting."""
