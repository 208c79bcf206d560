"""From bytes to events: lines, prefilter, wire formats, decoder.

`line_splitter` cuts lines, `prefilter` drops noise in blocks, `envelope` removes the text that other programs put
around an event, `formats` recognise the wire format, and `decoder` turns a name and its arguments into an event.
"""
