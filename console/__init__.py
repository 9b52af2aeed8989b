"""Who decides and watches: the operators' documents, their line to the coordinator, the command line."""
