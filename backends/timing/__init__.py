"""What a program costs: cycles of every instruction, the timeline of the engines, the ledger and the bounds."""
