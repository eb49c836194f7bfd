"""The coroutines between the sources and the outside: stages and sinks."""
