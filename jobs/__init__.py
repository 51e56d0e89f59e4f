"""Background work: supervisor, runner, slots, backends. No torch, no streamlit."""
