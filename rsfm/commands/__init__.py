"""One module per family of verbs. They parse, call one function, and show what it returned."""
