"""What `bench/load/run` is made of.

| file | has |
|---|---|
| system.py | control groups, memory, processes, ports, packages: what is measured of a server |
| traffic.py | smtp-source and smtp-sink |
| servers.py | finds the files in servers/ and runs what they describe |
| compare.py | servers side by side on the same work |
| tables.py | markdown tables, JSON, and where they go in RESULTS.md |
"""
