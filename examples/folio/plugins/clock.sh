#!/bin/sh
# The smallest plugin: it says when it is ready, and leaves when it is told to.
# What it prints besides is its log.
began=$(date +%s)
echo '{"ready": true}'
read -r _stop   # {"cmd":"stop"}, or the end of input if the host is gone
echo "Folio was open for $(($(date +%s) - began)) s"
