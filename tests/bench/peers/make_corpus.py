# SPDX-License-Identifier: Apache-2.0
# make_corpus.py TREE OUT SIZE_MB: real documentation below TREE becomes deterministic JSONL of 1 to 4 KB documents (see make_corpus.sh).
import sys,os,re,gzip,html,json,hashlib,multiprocessing as mp
tree,out,mb=sys.argv[1],sys.argv[2],int(sys.argv[3]); limit=mb*1_000_000
TXT=('.html','.htm','.xhtml','.txt','.rst','.md','.pod','.gz','.tex','.adoc','.1','.2','.3','.5','.7','.8','.sgml','.xml','.dz')
tag=re.compile(r'<(script|style|nav|head)\b.*?</\1>|<!--.*?-->',re.S|re.I)
brk=re.compile(r'</?(p|div|li|tr|h[1-6]|pre|br|table|dt|dd|ul|ol|section|blockquote)\b[^>]*>',re.I)
anyt=re.compile(r'<[^>]{0,2000}>')
roffcmd=re.compile(r'^\.(\\"|TH|so|ds|de|nr|if|ie|el|ad|na|hy|nh|ne|ft|ps|in|ti|ta|ta|sp|br|PP|P|LP|RS|RE|nf|fi|EX|EE|UE|UR).*$',re.M)
roffmac=re.compile(r"^[.'][A-Za-z]{1,3} ?",re.M); rofffont=re.compile(r'\\f(\[[A-Z]*\]|\([A-Z]{2}|[A-Z])|\\&|\\,|\\/'); roffesc=re.compile(r'\\\((..)')
RE={'aq':"'",'dq':'"','cq':'’','oq':'‘','lq':'“','rq':'”','em':'—','en':'–','bu':'•','co':'©','ha':'^','ti':'~','ga':'`'}
pyx=re.compile(r'\n{3,}'); ws=re.compile(r'[ \t]{40,}')
def load(path):
    try:
        with open(path,'rb') as f: b=f.read(40_000_000)
        if b[:2]==b'\x1f\x8b': b=gzip.decompress(b)
    except Exception: return ''
    if b'\0' in b[:4096]: return ''
    try: s=b.decode('utf-8')
    except UnicodeDecodeError: s=b.decode('latin-1')
    h=s[:2000].lower()
    if '<html' in h or '<!doctype' in h or path.endswith(('.html','.xhtml','.htm','.xml')):
        s=tag.sub(' ',s); s=brk.sub('\n',s); s=html.unescape(anyt.sub('',s))
    elif '/man/' in path or '\n.SH' in s[:5000]:
        s=roffcmd.sub('',s); s=roffmac.sub('',s); s=rofffont.sub('',s)
        s=roffesc.sub(lambda m:RE.get(m[1],m[1]),s).replace('\\-','-').replace('\\e','\\')
    s=ws.sub('    ',s); s=pyx.sub('\n\n',s)
    return s.strip()
def files():
    L=[]
    for r,d,fs in os.walk(tree):
        d.sort()
        for f in fs:
            p=os.path.join(r,f)
            if f in('copyright',) or f.startswith('changelog') or os.path.islink(p): continue
            if f.lower().endswith(TXT) or '/man/' in p or 'dict' in p or '/db.' in p:
                if not f.endswith(('.js','.css','.png','.svg.gz','.idx','.index')): L.append(p)
    # stable pseudo-random order => any prefix of the corpus is a fair mix
    L.sort(key=lambda p:hashlib.blake2b(p[len(tree):].encode(),digest_size=8).digest()); return L
def docs(args):
    path,pas=args; s=load(path); o=[]
    if len(s)<300: return o
    rel=path[len(tree)+1:]; pos=577*pas; n=len(s); k=0
    h=int.from_bytes(hashlib.blake2b((rel+str(pas)).encode(),digest_size=8).digest(),'little')
    while pos<n:
        h=(h*6364136223846793005+1442695040888963407)&(2**64-1)
        want=1000+(h>>33)%3000; end=pos+want
        if end<n:
            c=s.rfind('\n',pos+want//2,end); 
            if c<0: c=s.rfind(' ',pos+want//2,end)
            end=c+1 if c>0 else end
        t=s[pos:end].strip(); pos=end
        if len(t)>=200:
            o.append(json.dumps({"id":f"{hashlib.blake2b((rel+str(pas)+':'+str(k)).encode(),digest_size=6).hexdigest()}","text":t,"source":rel},ensure_ascii=(h>>20)%8==0)+'\n'); k+=1
    return o
if __name__=='__main__':
    L=files(); tot=0; nd=0; pas=0; sha=hashlib.sha256(); txt=0; seen=set(); dup=0
    with mp.Pool(4) as pool, open(out,'wb') as f:
        done=False
        while not done:
            for o in pool.imap((docs),((p,pas) for p in L),chunksize=64):
                for l in o:
                    if pas==0:   # drop exact duplicate texts (rustdoc boilerplate etc.)
                        i=l.index('"text": '); k=hashlib.blake2b(l[i:l.rindex('"source"')].encode(),digest_size=8).digest()
                        if k in seen: dup+=1; continue
                        seen.add(k)
                    b=l.encode(); f.write(b); sha.update(b); tot+=len(b); nd+=1
                    if tot>=limit: done=True; break
                if done: break
            pas+=1
            if pas>50: break
        pool.terminate()
    print(json.dumps({"out":out,"bytes":tot,"docs":nd,"passes":pas,"dups_dropped":dup,"files":len(L),"avg":tot//nd,"sha256":sha.hexdigest()}))
