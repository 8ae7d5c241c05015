"""The service that judges and signs: owning the coordinator gains nothing here."""
