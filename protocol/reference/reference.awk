#!/usr/bin/awk -f
# What there is of the reference plugin in awk: echo, add, fail, log and count, at level 1.
# No deadlines, no calls of the host. Values are never decoded, only cut out and put in.

BEGIN {
    # Some awks do not give out a line before they have read a block; a shell reads but the line.
    next_line = "IFS= read -r line && printf '%s\\n' \"$line\""
    say("{\"ready\": true, \"wire\": 1, \"name\": \"reference\", \"methods\": [" \
        "{\"name\": \"echo\", \"params\": [\"value\"]}, {\"name\": \"add\", \"params\": [\"a\", \"b=\"]}, " \
        "{\"name\": \"fail\", \"params\": [\"message\"]}, {\"name\": \"log\", \"params\": [\"level\", \"message\"]}, " \
        "{\"name\": \"count\", \"params\": [\"n\", \"fail=\"], \"stream\": true}]}")
    while ((next_line | getline line) > 0) {
        close(next_line)
        if (cut(line, message) == "{") take()
    }
}

function take(   id, method) {
    id = message["id"]
    method = message["method"]
    if (message["cmd"] == "\"stop\"") exit 0
    else if (method == "\"$/cancel\"" || method == "\"$/credit\"") heed(method)
    else if (id == "" || method == "") return
    else if (method == "\"$/start\"" || method == "\"$/ping\"") answer(id, "null")
    else if (method == "\"$/stop\"") { answer(id, "null"); exit 0 }
    else if (method == "\"count\"") count(id)
    else if ("credit" in message) refuse(id, -32602, "\"no stream: give no credit\"")
    else if (method == "\"echo\"") { if (arguments(id, "value", 1)) answer(id, given["value"]) }
    else if (method == "\"add\"") add(id)
    else if (method == "\"fail\"") { if (arguments(id, "message", 1)) refuse(id, -32000, given["message"]) }
    else if (method == "\"log\"") log_it(id)
    else refuse(id, -32601, "\"no such method\"")
}

function add(id) {
    if (arguments(id, "a b", 1))
        answer(id, given["a"] + ("b" in given ? given["b"] : 1))
}

function log_it(id) {
    if (!arguments(id, "level message", 2)) return
    say("{\"jsonrpc\": \"2.0\", \"method\": \"$/log\", \"params\": {\"logger\": \"reference\", \"level\": " \
        given["level"] ", \"message\": " given["message"] "}}")
    answer(id, "null")
}

# --- Streams: many may be under way, each with what it has sent, and its credit ---------------

function count(id) {
    if (!("credit" in message)) { refuse(id, -32602, "\"a stream: give credit\""); return }
    if (!arguments(id, "n fail", 1)) return
    last[id] = given["n"] + 0
    failure[id] = given["fail"]
    credit[id] = message["credit"] + 0
    sent[id] = 0
    flow(id)
}

function flow(id) {
    for (; sent[id] < last[id] && credit[id] > 0; credit[id]--)
        say("{\"jsonrpc\": \"2.0\", \"method\": \"$/chunk\", \"params\": {\"id\": " id ", \"value\": " sent[id]++ "}}")
    if (sent[id] < last[id]) return
    delete last[id]
    if (failure[id] == "" || failure[id] == "null") answer(id, "null")
    else refuse(id, -32000, failure[id])
}

function heed(method,   params) {
    cut(message["params"], params)
    if (!(params["id"] in last)) return
    if (method == "\"$/credit\"") {
        credit[params["id"]] += params["n"]
        flow(params["id"])
    } else {
        delete last[params["id"]]
        refuse(params["id"], -32800, "\"cancelled\"")
    }
}

# --- Answers ----------------------------------------------------------------------------------

function say(line) { print line; fflush() }

function answer(id, result) {
    say("{\"jsonrpc\": \"2.0\", \"id\": " id ", \"result\": " result "}")
}

function refuse(id, code, text) {
    say("{\"jsonrpc\": \"2.0\", \"id\": " id ", \"error\": {\"code\": " code ", \"message\": " text "}}")
}

# --- Arguments: names is those of the parameters, of which the first few are required ---------

function arguments(id, names, required,   name, size, params, kind, args, kwargs, key, i) {
    split("", given)
    split("", kwargs)
    size = split(names, name, " ")
    kind = ("params" in message) ? cut(message["params"], params) : "["
    if (kind == "[") copy(params, args)
    else if ("$args" in params || "$kwargs" in params) {
        cut(params["$args"], args)
        cut(params["$kwargs"], kwargs)
        for (key in params)
            if (key != "$args" && key != "$kwargs") kind = ""
    } else copy(params, kwargs)
    if (kind == "") { refuse(id, -32600, "\"params is of none of its forms\""); return 0 }
    for (i = 1; i in args; i++)
        given[i <= size ? name[i] : i] = args[i]
    for (key in kwargs) {
        if (key in given) { refuse(id, -32602, "\"" key " is given twice\""); return 0 }
        given[key] = kwargs[key]
    }
    for (i = 1; i <= size; i++) {
        if (name[i] in given) continue
        if (i <= required) { refuse(id, -32602, "\"missing argument " name[i] "\""); return 0 }
    }
    for (key in given)
        if (index(" " names " ", " " key " ") == 0) { refuse(id, -32602, "\"unknown argument " key "\""); return 0 }
    return 1
}

function copy(from, to,   key) { for (key in from) to[key] = from[key] }

# --- JSON: cut an object or array into its members, each as it is written ---------------------

function cut(text, members,   kind, key, size, n) {
    split("", members)
    gsub(/^[ \t\r\n]+|[ \t\r\n]+$/, "", text)
    kind = substr(text, 1, 1)
    if (kind != "{" && kind != "[") return ""
    text = substr(text, 2)
    while (1) {
        sub(/^[ \t\r\n,:]+/, "", text)
        if (text ~ /^[]}]/ || text == "") return kind
        size = length_of(text)
        if (size < 1) return ""
        if (kind == "[") members[++n] = substr(text, 1, size)
        else if (key == "") key = substr(text, 1, size)
        else { members[substr(key, 2, length(key) - 2)] = substr(text, 1, size); key = "" }
        text = substr(text, size + 1)
    }
}

function length_of(text,   depth, size) {   # of the value with which it begins
    do {
        if (!match(text, /^"([^"\\]|\\.)*"|^[][{}]|^[^]["{},: \t]+|^[,: \t]+/)) return 0
        if (substr(text, 1, 1) ~ /[[{]/) depth++
        else if (substr(text, 1, 1) ~ /[]}]/) depth--
        size += RLENGTH
        text = substr(text, RLENGTH + 1)
    } while (depth > 0)
    return size
}
