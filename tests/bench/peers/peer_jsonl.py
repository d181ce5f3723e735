#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""peer_jsonl.py --input x.jsonl [--limit-mb M]: Python JSONL peers (json, orjson, pysimdjson, msgspec if present) GB/s, 1 core; text bytes for parity. C peers: bin/jbench FILE."""
import argparse,json,time,statistics,os
ap=argparse.ArgumentParser();ap.add_argument('--input',required=True);ap.add_argument('--limit-mb',type=float,default=0);ap.add_argument('--reps',type=int,default=3);a=ap.parse_args()
os.sched_setaffinity(0,{1})
def bench(name,f):
    ts=[]
    for _ in range(a.reps):
        n=t=0;s=time.perf_counter()
        for l in open(a.input,'rb'):
            t+=f(l);n+=len(l)
            if a.limit_mb and n>=a.limit_mb*1e6: break
        ts.append(time.perf_counter()-s)
    print(json.dumps(dict(peer=name,GBps=round(n/1e9/statistics.median(ts),3),bytes=n,chars=t)),flush=True)
bench('lines only',lambda l:1)
bench('json',lambda l:len(json.loads(l)['text']))
import orjson; bench('orjson',lambda l:len(orjson.loads(l)['text']))
try:
    import simdjson; p=simdjson.Parser(); bench('pysimdjson (key only)',lambda l:len(p.parse(l)['text']))
except Exception as e: print('simdjson',e)
try:
    import msgspec
    class D(msgspec.Struct): text:str
    d=msgspec.json.Decoder(D); bench('msgspec struct',lambda l:len(d.decode(l).text))
except Exception as e: print('msgspec',e)
