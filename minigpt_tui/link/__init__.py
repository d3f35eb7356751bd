"""The link: watch and prompt a run that trains in another process, over a Unix socket that this process serves.

`places` says where the sockets lie and whose they must be, `messages` what may be said, `server` answers for a run that
trains here, `client` keeps a connection to one that trains elsewhere, `live` and `remote` make a session of it, and
`reach` finds it for the shell.
"""
