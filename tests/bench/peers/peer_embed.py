#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Strong, fair peers for all-MiniLM-L6-v2. Prints one JSON line per engine: texts/s, tokens/s incl. tokenisation.
   peer_embed.py --model-dir model --onnx-dir onnx --input a.jsonl --threads 1 --engines ort,ort-int8,st,st-bf16 --out emb_ --reps 3
   Length-sorted, token-budget batches (least padding); tokeniser = HF `tokenizers` (Rust), with as many threads as --threads.
   Best batch budget is searched unless --budget is given (the peer gets its best)."""
import argparse,json,os,time,sys,resource
p=argparse.ArgumentParser()
p.add_argument('--model-dir',default='model');p.add_argument('--onnx-dir',default='onnx')
p.add_argument('--input',required=True);p.add_argument('--threads',type=int,default=1)
p.add_argument('--engines',default='ort');p.add_argument('--out',default='');p.add_argument('--reps',type=int,default=3)
p.add_argument('--budget',type=int,default=0);p.add_argument('--limit',type=int,default=0)
p.add_argument('--max-len',type=int,default=256);p.add_argument('--procs',type=int,default=1,help='N single-thread worker processes (fork) instead of threads')
a=p.parse_args()
os.environ['OMP_NUM_THREADS']=str(a.threads);os.environ['RAYON_NUM_THREADS']=str(a.threads);os.environ['TOKENIZERS_PARALLELISM']='true' if a.threads>1 else 'false'
os.environ['MKL_NUM_THREADS']=str(a.threads)
import numpy as np
texts=[json.loads(l)['text'] for l in open(a.input)]
if a.limit: texts=texts[:a.limit]
def tokenizer():
    from tokenizers import Tokenizer
    t=Tokenizer.from_file(os.path.join(a.model_dir,'tokenizer.json'));t.enable_truncation(a.max_len);t.no_padding();return t
def batches(lens,budget):
    order=sorted(range(len(lens)),key=lambda i:-lens[i]);out=[];i=0
    while i<len(order):
        L=lens[order[i]];n=max(1,min(512,budget//L));out.append(order[i:i+n]);i+=n
    return out
def pool(h,m):
    m=m[:,:,None].astype(np.float32);e=(h*m).sum(1)/np.maximum(m.sum(1),1e-9);return e/np.maximum(np.linalg.norm(e,axis=1,keepdims=True),1e-12)
def pool_fast(h,m):   # one BLAS-like batched matmul, no temp of the full size
    w=m.astype(np.float32);w/=w.sum(1,keepdims=True);e=np.matmul(w[:,None,:],h)[:,0,:];e/=np.linalg.norm(e,axis=1,keepdims=True);return e
def ort_run(path,txt,budget,state={}):
    import onnxruntime as rt
    if path not in state:
        t0=time.perf_counter();so=rt.SessionOptions();so.intra_op_num_threads=a.threads;so.inter_op_num_threads=1;so.graph_optimization_level=rt.GraphOptimizationLevel.ORT_ENABLE_ALL;so.log_severity_level=3
        s=rt.InferenceSession(path,so,providers=['CPUExecutionProvider']);state[path]=(s,tokenizer(),{i.name for i in s.get_inputs()},time.perf_counter()-t0)
    s,t,names,load=state[path]
    enc=t.encode_batch(txt);ids=[e.ids for e in enc];lens=[len(x) for x in ids];out=np.empty((len(txt),384),np.float32);pad=0
    for b in batches(lens,budget):
        L=lens[b[0]];x=np.zeros((len(b),L),np.int64);m=np.zeros((len(b),L),np.int64)
        for r,i in enumerate(b): x[r,:lens[i]]=ids[i];m[r,:lens[i]]=1
        f={'input_ids':x,'attention_mask':m,'token_type_ids':np.zeros_like(x)}
        out[b]=pool_fast(s.run(None,{k:v for k,v in f.items() if k in names})[0],m)
    return out,sum(lens),load
def st_run(kind,txt,budget,state={}):
    if kind not in state:
        t0=time.perf_counter();import torch;torch.set_num_threads(a.threads)
        from sentence_transformers import SentenceTransformer
        m=SentenceTransformer(a.model_dir,device='cpu',model_kwargs={'dtype':torch.bfloat16} if kind=='st-bf16' else {});m.max_seq_length=a.max_len;state[kind]=(m,time.perf_counter()-t0)
    m,load=state[kind]
    avg=max(1,sum(map(len,txt))//len(txt)//4);e=m.encode(txt,batch_size=max(8,min(512,budget//avg)),show_progress_bar=False,convert_to_numpy=True,normalize_embeddings=True)
    return np.asarray(e,dtype=np.float32),None,load
files={'ort':'model_opt.onnx','ort-raw':'model.onnx','ort-int8':'model_int8.onnx','ort-int8-raw':'model_int8_raw.onnx','ort-int8-pt':'model_int8_pt.onnx'}
tk=tokenizer();ntok=sum(len(e.ids) for e in tk.encode_batch(texts));
for e in a.engines.split(','):
    f=(lambda t,b:ort_run(os.path.join(a.onnx_dir,files[e]),t,b)) if e in files else (lambda t,b:st_run(e,t,b))
    if a.procs>1:
        import multiprocessing as mp
        # strided split of the length-sorted list, so every worker has the same work
        od=sorted(range(len(texts)),key=lambda i:-len(texts[i]));parts=[[texts[i] for i in od[k::a.procs]] for k in range(a.procs)]
        bar=mp.Barrier(a.procs+1);q=mp.Queue()
        def w(pt):
            b=a.budget or 2048;f(pt[:16],b)
            for _ in range(a.reps): bar.wait();f(pt,b);bar.wait()
        ps=[mp.Process(target=w,args=(x,)) for x in parts];[x.start() for x in ps];ts=[]
        for _ in range(a.reps): bar.wait();t0=time.perf_counter();bar.wait();ts.append(time.perf_counter()-t0)
        [x.join() for x in ps];t=sorted(ts)[len(ts)//2];bud=a.budget or 2048;load=0
    else:
        f(texts[:8],512)
        bud=a.budget
        if not bud:
            best=None;sub=texts[::max(1,len(texts)//200)]
            for b in (512,1024,2048,4096,8192,16384):
                t0=time.perf_counter();f(sub,b);dt=time.perf_counter()-t0
                if best is None or dt<best[0]: best=(dt,b)
            bud=best[1]
        ts=[]
        for _ in range(a.reps):
            t0=time.perf_counter();o,_,load=f(texts,bud);ts.append(time.perf_counter()-t0)
        t=sorted(ts)[len(ts)//2]
        if a.out: np.save(f'{a.out}{e}.npy',o)
    print(json.dumps(dict(engine=e,input=os.path.basename(a.input),threads=a.threads,procs=a.procs,budget=bud,texts_per_s=round(len(texts)/t,1),tokens_per_s=round(ntok/t),median_s=round(t,3),all_s=[round(x,3) for x in ts],load_s=round(load,2),maxrss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024)),flush=True)
