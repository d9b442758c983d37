"""What `bench/load/run` is made of.

| file | has |
|---|---|
| system.py | control groups, memory, processes, ports, packages: what is measured of a server |
| traffic.py | smtp-source and smtp-sink |
| servers.py | finds the files in servers/ and runs what they describe |
| compare.py | servers side by side on the same work |
| tables.py | markdown tables, JSON, and where they go in RESULTS.md |
| growth.py, sessions.py, million.py, fanout.py | Courser alone, at scale |
| submit.py | a sender for many domains, many recipients |
| receivers.py | slow or deferring receivers (`courser sink`), a name server (nsd) |
"""
