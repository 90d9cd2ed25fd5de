// The reference plugin at level 2 with the codec json: all of conformance.md, with Go's standard
// library alone.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

type method struct {
	params []string
	stream bool
	run    func(*call, object) any
}

var methods map[string]method

func init() {
	methods = map[string]method{
		"echo":     {[]string{"value"}, false, func(_ *call, a object) any { return a["value"] }},
		"add":      {[]string{"a", "b="}, false, add},
		"options":  {[]string{"**options"}, false, func(_ *call, a object) any { return a["options"] }},
		"settings": {nil, false, func(*call, object) any { return config }},
		"fail":     {[]string{"message"}, false, func(_ *call, a object) any { panic(a["message"]) }},
		"count":    {[]string{"n", "fail="}, true, count},
		"wait":     {nil, false, wait},
		"log":      {[]string{"level", "message"}, false, logIt},
		"say":      {[]string{"text"}, false, say},
		"blob":     {[]string{"n"}, false, blob},
		"size":     {[]string{"data"}, false, func(_ *call, a object) any { return len(a["data"].([]byte)) }},
		"ask_host": {[]string{"method", "*args"}, false, askHost},
	}
}

func number(value any, otherwise int64) int64 {
	if n, ok := value.(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return otherwise
}

func add(_ *call, a object) any { return number(a["a"], 0) + number(a["b"], 1) }

func count(c *call, a object) any {
	left := int64(0)
	for i := range number(a["n"], 0) {
		c.chunk(i, &left)
	}
	if a["fail"] != nil {
		panic(a["fail"])
	}
	return nil
}

func wait(c *call, _ object) any {
	c.notify("$/progress", "waiting")
	<-c.Done()
	panic(c.why())
}

func logIt(_ *call, a object) any {
	record := object{"level": a["level"], "message": a["message"], "logger": "reference"}
	params, _ := json.Marshal(record)
	send(&message{Method: "$/log", Params: params})
	return nil
}

func say(_ *call, a object) any {
	fmt.Println(a["text"])
	return nil
}

func blob(_ *call, a object) any {
	data := make([]byte, number(a["n"], 0))
	for i := range data {
		data[i] = byte(i)
	}
	return data
}

func askHost(c *call, a object) any {
	args, _ := a["args"].([]any)
	if args == nil {
		args = []any{}
	}
	return c.host(fmt.Sprint(a["method"]), args)
}

func known() (names []string) {
	for name := range methods {
		names = append(names, name)
	}
	return
}

func main() {
	openChannels()
	announced := []object{}
	for name, m := range methods {
		params := append([]string{}, m.params...)
		announced = append(announced, object{"name": name, "params": params, "stream": m.stream})
	}
	ready, _ := json.Marshal(object{"ready": true, "wire": 2, "name": "reference",
		"codec": "json", "methods": announced})
	sendFrame(ready, nil, nil)
	for {
		m := receive()
		switch {
		case m.Command == "stop":
			os.Exit(0)
		case m.Method == "" && m.ID != nil:
			mutex.Lock()
			waiting := asked[string(m.ID)]
			delete(asked, string(m.ID))
			mutex.Unlock()
			if waiting != nil {
				waiting <- m
			}
		case m.Method == "":
			cutOff("a frame holds no message")
		case m.ID != nil:
			begin(m)
		default:
			heed(m)
		}
	}
}

func heed(m *message) {
	var params struct {
		ID json.RawMessage
		N  int64
	}
	json.Unmarshal(m.Params, &params)
	mutex.Lock()
	c := serving[string(params.ID)]
	mutex.Unlock()
	switch {
	case c == nil:
	case m.Method == "$/cancel":
		c.cancel(errCancelled)
	case m.Method == "$/credit" && c.Credit != nil:
		c.credit <- params.N
	}
}

func openChannels() {
	var read, write uintptr
	_, err := fmt.Sscanf(os.Getenv("PLUGKEEP_WIRE_FDS"), "%d,%d,%d", &read, &write, &side)
	if err != nil || os.Getenv("PLUGKEEP_WIRE") < "2" {
		cutOff("this plugin speaks level 2 alone, and the host does not offer it")
	}
	os.Unsetenv("PLUGKEEP_WIRE")
	os.Unsetenv("PLUGKEEP_WIRE_FDS")
	for _, descriptor := range []int{int(read), int(write), side} {
		syscall.CloseOnExec(descriptor)
	}
	commands, replies = os.NewFile(read, "commands"), os.NewFile(write, "replies")
}
