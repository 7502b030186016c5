"""What is measured, and how it is told: to Prometheus, by OTLP, to StatsD.

Invariant: a metric is declared once (`Measure`) and read at one place; the three ways of telling are views of the same
readings, taken when they are asked for, so that none of them costs a task anything.
"""
