"""The service that judges and signs. Owning the coordinator gains nothing here: it signs only what it has itself judged."""
