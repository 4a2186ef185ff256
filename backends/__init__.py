"""Targets, instruction set, program file, simulator and timing."""
