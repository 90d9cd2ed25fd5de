// Calls: each in a goroutine of its own, with its deadline, its cancellation and its credit.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A call of the host's that is under way.
type call struct {
	*message
	context.Context
	cancel  context.CancelCauseFunc
	release context.CancelFunc // of the timer
	credit  chan int64
}

var (
	mutex   sync.Mutex
	serving = map[string]*call{}         // by id
	asked   = map[string]chan *message{} // our requests, by id
	issued  int
	config  any

	errCancelled = refuse(-32800, "cancelled")
	errStopping  = refuse(-32006, "about to stop")
)

func begin(m *message) {
	c := &call{message: m, Context: context.Background(), release: func() {}}
	c.credit = make(chan int64, 1000)
	if m.Deadline != nil {
		left := time.Duration(*m.Deadline) * time.Millisecond
		c.Context, c.release = context.WithTimeout(c.Context, left)
	}
	c.Context, c.cancel = context.WithCancelCause(c.Context)
	mutex.Lock()
	serving[string(m.ID)] = c
	mutex.Unlock()
	go c.serve()
}

// why says what ended the call before it was done.
func (c *call) why() error {
	if cause := context.Cause(c.Context); cause != context.DeadlineExceeded {
		return cause
	}
	return refuse(-32001, "the deadline has passed")
}

func (c *call) serve() {
	answer := &message{ID: c.ID}
	defer c.release()
	defer func() {
		if reason := recover(); reason != nil {
			*answer = message{ID: c.ID, Error: asFailure(reason)}
		}
		mutex.Lock()
		delete(serving, string(c.ID))
		mutex.Unlock()
		send(answer)
		if c.Method == "$/stop" {
			os.Exit(0)
		}
	}()
	if c.Err() != nil {
		panic(c.why())
	}
	answer.Result = answer.packed(c.perform())
}

func asFailure(reason any) *failure {
	var f *failure
	if err, ok := reason.(error); ok && errors.As(err, &f) {
		return f
	}
	return &failure{Code: -32000, Message: fmt.Sprint(reason), Data: object{"type": "error"}}
}

func (c *call) perform() any {
	switch c.Method {
	case "$/ping":
		return nil
	case "$/start":
		params, _ := decode(c.Params).(object)
		config = params["config"]
		failIf("fail_start")
		return nil
	case "$/stop":
		mutex.Lock()
		for _, other := range serving {
			if other != c {
				other.cancel(errStopping)
			}
		}
		mutex.Unlock()
		failIf("fail_stop")
		return nil
	}
	method, ok := methods[c.Method]
	if !ok {
		panic(&failure{-32601, fmt.Sprintf("no method %q", c.Method), object{"known": known()}})
	}
	if method.stream != (c.Credit != nil) {
		panic(refuse(-32602, "give credit to streams, and only to them: %q", c.Method))
	}
	if c.Credit != nil {
		c.credit <- *c.Credit
	}
	return method.run(c, bind(method.params, c.message))
}

func failIf(key string) {
	if options, ok := config.(object); ok && options[key] != nil {
		panic(options[key])
	}
}

// bind returns the arguments by the names of the parameters, which are written as at ready.
func bind(params []string, m *message) object {
	args, kwargs := m.arguments()
	bound := object{}
	for _, param := range params {
		name := strings.Trim(param, "*=")
		value, named := kwargs[name]
		switch {
		case strings.HasPrefix(param, "**"):
			bound[name], kwargs = kwargs, nil
			continue
		case strings.HasPrefix(param, "*"):
			bound[name], args = args, nil
			continue
		case len(args) > 0 && named:
			panic(refuse(-32602, "argument '%s' is given twice", name))
		case len(args) > 0:
			bound[name], args = args[0], args[1:]
		case named:
			bound[name] = value
		case !strings.HasSuffix(param, "="):
			panic(refuse(-32602, "missing argument '%s'", name))
		}
		delete(kwargs, name)
	}
	for name := range kwargs {
		panic(refuse(-32602, "unknown argument '%s'", name))
	}
	if len(args) > 0 {
		panic(refuse(-32602, "%d arguments too many", len(args)))
	}
	return bound
}

func (c *call) notify(method string, value any) {
	m := &message{Method: method}
	params := object{"id": c.ID, "value": json.RawMessage(m.packed(value))}
	m.Params, _ = json.Marshal(params)
	send(m)
}

// chunk sends a value of a stream, as soon as there is credit.
func (c *call) chunk(value any, left *int64) {
	for *left == 0 {
		select {
		case more := <-c.credit:
			*left += more
		case <-c.Done():
			panic(c.why())
		}
	}
	*left--
	c.notify("$/chunk", value)
}

func (c *call) host(method string, args any) any {
	answer := make(chan *message, 1)
	mutex.Lock()
	issued++
	id := strconv.Itoa(issued)
	asked[id] = answer
	mutex.Unlock()
	m := &message{ID: json.RawMessage(id), Method: "host." + method, Within: c.ID}
	m.Params = m.packed(args)
	send(m)
	select {
	case m := <-answer:
		if m.Error != nil {
			panic(m.Error.Message)
		}
		return m.resolve(decode(m.Result))
	case <-c.Done():
		panic(c.why())
	}
}
