#!/usr/bin/env python3
"""Makes the texts that models of text start from (src/codecs/text/prior).

    python3 tools/train/prior.py CORPUS OUTDIR [SCALE]

CORPUS is what corpus.py wrote. Logs, CSV and JSON of model repositories are
made here, from formats that are in common use; SCALE (default 1) makes more of
them, for training. Output depends on nothing but CORPUS and SCALE.
"""

import json
import pathlib
import random
import re
import sys

rng = random.Random(2)

WORDS = ('time model data value result system state order point level part '
         'form number group line place page name type file list user report '
         'project service request network server session memory storage table '
         'index record event message client worker batch sample token layer '
         'weight tensor shard cluster node region account payment customer '
         'product invoice sensor station river mountain garden window').split()
NAMES = ('Anna Schmidt,John Miller,Maria Garcia,Wei Chen,Olga Petrova,'
         'James Brown,Fatima Hassan,Lucas Martin,Emma Wilson,Noah Fischer,'
         'Sofia Rossi,Liam Murphy,Yuki Tanaka,Priya Patel,Carlos Silva,'
         'Eva Novak,David Cohen,Sara Lindberg').split(',')
CITIES = ('Berlin London Paris Madrid Rome Vienna Oslo Prague Lisbon Dublin '
          'Boston Chicago Toronto Sydney Tokyo Mumbai Lagos Lima').split()
MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split()
DAYS = 'Mon Tue Wed Thu Fri Sat Sun'.split()


def hexes(n):
    return '%0*x' % (n, rng.getrandbits(4 * n))


def uuid():
    return '-'.join(hexes(n) for n in (8, 4, 4, 4, 12))


def address():
    return rng.choice(['192.168.%d.%d', '10.0.%d.%d', '172.16.%d.%d',
                       '203.0.%d.%d', '198.51.%d.%d']) % (
                           rng.randrange(1, 255), rng.randrange(1, 255))


class Clock:
    """Time that goes on as in a log."""

    def __init__(self, step):
        self.year = rng.randrange(2019, 2027)
        self.month = rng.randrange(12)
        self.day = rng.randrange(1, 28)
        self.second = rng.uniform(0, 80000)
        self.step = step

    def tick(self):
        self.second += rng.expovariate(1 / self.step)
        if self.second >= 86400:
            self.second -= 86400
            self.day = self.day % 28 + 1
        s = int(self.second)
        self.hms = '%02d:%02d:%02d' % (s // 3600, s // 60 % 60, s % 60)
        self.ms = int(self.second * 1000) % 1000
        self.us = int(self.second * 1000000) % 1000000
        self.date = '%d-%02d-%02d' % (self.year, self.month + 1, self.day)
        return self


def phrase(n):
    return ' '.join(rng.choice(WORDS) for _ in range(n))


def log_syslog(n):
    clock = Clock(20)
    host = rng.choice(['server1', 'web-01', 'db2', 'localhost', 'node-3'])
    pid = rng.randrange(300, 30000)
    for _ in range(n):
        clock.tick()
        head = '%s %2d %s %s ' % (MONTHS[clock.month], clock.day, clock.hms,
                                  host)
        ip, port = address(), rng.randrange(1024, 65535)
        pid += rng.randrange(1, 9)
        user = rng.choice(['root', 'admin', 'deploy', 'git', 'alice'])
        yield head + rng.choice([
            f'sshd[{pid}]: Accepted publickey for {user} from {ip} port {port} '
            f'ssh2: RSA SHA256:{hexes(12)}',
            f'sshd[{pid}]: Failed password for invalid user {user} from {ip} '
            f'port {port} ssh2',
            f'sshd[{pid}]: pam_unix(sshd:session): session opened for user '
            f'{user}(uid=0) by (uid=0)',
            f'sshd[{pid}]: Connection closed by authenticating user {user} '
            f'{ip} port {port} [preauth]',
            f'sshd[{pid}]: Received disconnect from {ip} port {port}:11: '
            'disconnected by user',
            f'CRON[{pid}]: ({user}) CMD (test -x /usr/sbin/anacron || ( cd / '
            '&& run-parts --report /etc/cron.daily ))',
            f'systemd[1]: Started Session {pid} of user {user}.',
            'systemd[1]: Starting Cleanup of Temporary Directories...',
            f'systemd[1]: {rng.choice(WORDS)}.service: Main process exited, '
            f'code=exited, status={rng.randrange(1, 9)}/FAILURE',
            f'systemd[1]: {rng.choice(WORDS)}.service: Failed with result '
            "'exit-code'.",
            f'kernel: [{clock.second:12.6f}] [UFW BLOCK] IN=eth0 OUT= '
            f'MAC={hexes(2)}:{hexes(2)}:{hexes(2)} SRC={ip} DST={address()} '
            f'LEN=40 TOS=0x00 PREC=0x00 TTL=245 ID={port} PROTO=TCP '
            f'SPT={port} DPT={rng.choice([22, 23, 80, 443, 8080])} '
            'WINDOW=1024 RES=0x00 SYN URGP=0',
            f'dhclient[{pid}]: DHCPACK of {ip} from {address()}',
            f'postfix/smtpd[{pid}]: connect from unknown[{ip}]',
        ])


def log_access(n):
    clock = Clock(2)
    agents = [
        'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, '
        'like Gecko) Chrome/120.0.0.0 Safari/537.36',
        'Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0',
        'Mozilla/5.0 (compatible; Googlebot/2.1; '
        '+http://www.google.com/bot.html)', 'curl/7.88.1',
        'Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) '
        'AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.5 Mobile/15E148 '
        'Safari/604.1', 'python-requests/2.31.0']
    for _ in range(n):
        clock.tick()
        path = '/' + '/'.join(rng.choice(
            ['api', 'v1', 'static', 'images', 'css', 'users', 'login', 'search',
             'index.html', 'favicon.ico', rng.choice(WORDS)])
                              for _ in range(rng.randrange(1, 4)))
        if rng.random() < 0.3:
            path += '?id=%d&page=%d' % (rng.randrange(9999), rng.randrange(20))
        yield '%s - - [%02d/%s/%d:%s +0000] "%s %s HTTP/1.1" %d %d "%s" "%s"' % (
            address(), clock.day, MONTHS[clock.month], clock.year, clock.hms,
            rng.choice(['GET', 'GET', 'GET', 'POST', 'HEAD']), path,
            rng.choice([200, 200, 200, 200, 304, 404, 301, 500, 403]),
            rng.randrange(100, 60000),
            rng.choice(['-', '-', 'https://www.example.com/']),
            rng.choice(agents))


def log_python(n):
    clock = Clock(1)
    for _ in range(n):
        clock.tick()
        level = rng.choice(['INFO', 'INFO', 'INFO', 'DEBUG', 'WARNING', 'ERROR'])
        module = rng.choice(['app.main', 'app.db', 'urllib3.connectionpool',
                             'worker.tasks', 'django.request', 'uvicorn.error'])
        a, b = rng.randrange(1, 5000), rng.random() * 10
        yield f'{clock.date} {clock.hms},{clock.ms:03d} - {module} - {level} - ' \
            + rng.choice([
                f'Processed {a} items in {b:.3f} seconds',
                f'Connection to {address()} timed out. (connect timeout=10)',
                f'Starting new HTTPS connection (1): api.example.com:443',
                f'Request {uuid()} completed with status 200 in {a} ms',
                f'Retrying ({a % 5}/5) after error: [Errno 111] Connection '
                'refused', f'Loaded configuration from /etc/app/config.yaml',
                f'Cache miss for key user:{a}', f'Task {uuid()} succeeded in '
                f'{b:.6f}s: None'])
        if level == 'ERROR' and rng.random() < 0.5:
            yield 'Traceback (most recent call last):'
            for _ in range(rng.randrange(1, 4)):
                yield '  File "/usr/lib/python3/dist-packages/%s/%s.py", ' \
                    'line %d, in %s' % (rng.choice(WORDS), rng.choice(WORDS),
                                        rng.randrange(900), rng.choice(WORDS))
                yield '    return self.%s(%s, **kwargs)' % (
                    rng.choice(WORDS), rng.choice(WORDS))
            yield rng.choice(["KeyError: '%s'" % rng.choice(WORDS),
                              'ValueError: invalid literal for int() with base '
                              "10: '%s'" % rng.choice(WORDS),
                              "AttributeError: 'NoneType' object has no "
                              "attribute '%s'" % rng.choice(WORDS)])


def log_java(n):
    clock = Clock(1)
    classes = ['o.a.h.hdfs.DataNode', 'c.example.service.OrderService',
               'o.s.b.w.embedded.tomcat.TomcatWebServer', 'o.a.k.c.NetworkClient',
               'c.zaxxer.hikari.HikariDataSource']
    for _ in range(n):
        clock.tick()
        a = rng.randrange(1, 100000)
        yield f'{clock.date}T{clock.hms}.{clock.ms:03d}Z ' \
            f'{rng.choice(["INFO", "INFO", "WARN", "DEBUG", "ERROR"]):5s} ' \
            f'[{rng.choice(["main", "http-nio-8080-exec-%d" % (a % 9), "pool-1-thread-%d" % (a % 7)])}] ' \
            f'{rng.choice(classes)} : ' + rng.choice([
                f'Started Application in {a / 1000} seconds (JVM running for '
                f'{a / 900:.3f})', f'Tomcat started on port(s): 8080 (http)',
                f'HikariPool-1 - Start completed.',
                f'[Consumer clientId=consumer-{a % 9}, groupId={rng.choice(WORDS)}]'
                f' Node -1 disconnected.',
                f'Receiving block blk_{a * 7919} src: /{address()}:50010 dest: '
                f'/{address()}:50010', f'Order {a} created for customer {a % 977}'])
        if rng.random() < 0.08:
            yield 'java.lang.NullPointerException: null'
            for _ in range(rng.randrange(2, 6)):
                yield '\tat com.example.%s.%s(%s.java:%d)' % (
                    rng.choice(WORDS), rng.choice(['get', 'run', 'invoke',
                                                   'handle']),
                    rng.choice(WORDS).capitalize(), rng.randrange(900))


def log_training(n):
    loss, step = 10.0, 0
    for i in range(n):
        step += 10
        loss = max(1.5, loss * 0.995 + rng.uniform(-0.05, 0.05))
        if i % 25 == 24:
            yield ("{'eval_loss': %.6f, 'eval_runtime': %.4f, "
                   "'eval_samples_per_second': %.3f, 'epoch': %.2f}" % (
                       loss, rng.uniform(5, 50), rng.uniform(10, 99),
                       step / 1000))
        else:
            yield ("{'loss': %.4f, 'grad_norm': %.6f, 'learning_rate': %.8e, "
                   "'epoch': %.2f}" % (loss, rng.uniform(0.2, 2),
                                       5e-5 * (1 - i / n), step / 1000))


def log_json(n):
    clock = Clock(1)
    for _ in range(n):
        clock.tick()
        yield json.dumps({
            'timestamp': f'{clock.date}T{clock.hms}.{clock.us:06d}Z',
            'level': rng.choice(['info', 'info', 'warn', 'error', 'debug']),
            'logger': rng.choice(WORDS) + '.' + rng.choice(WORDS),
            'message': phrase(4), 'request_id': uuid(),
            'duration_ms': round(rng.uniform(0, 900), 3),
            'status': rng.choice([200, 201, 400, 404, 500]),
            'user': {'id': rng.randrange(10000), 'ip': address()}})


def log_kernel(n):
    time = 0.0
    for _ in range(n):
        time += rng.expovariate(9)
        a, b = rng.randrange(32), rng.randrange(8)
        yield f'[{time:12.6f}] ' + rng.choice([
            f'pci 0000:{a:02x}:{b:02x}.0: [8086:{hexes(4)}] type 00 class '
            f'0x{hexes(6)}', f'pci 0000:{a:02x}:{b:02x}.0: reg 0x10: [mem '
            f'0x{hexes(8)}-0x{hexes(8)} 64bit pref]',
            f'usb 1-{b}: new high-speed USB device number {a} using xhci_hcd',
            f'ACPI: PCI: Interrupt link LNK{"ABCD"[b % 4]} configured for IRQ '
            f'{a}', f'sd {b}:0:0:0: [sd{"abcdefgh"[b]}] {a * 2048} 512-byte '
            f'logical blocks: ({a}.0 GB/{a}.0 GiB)',
            f'EXT4-fs (sda{b}): mounted filesystem with ordered data mode. '
            'Opts: (null)', f'BIOS-e820: [mem 0x{hexes(16)}-0x{hexes(16)}] '
            + rng.choice(['usable', 'reserved']),
            f'eth{b % 2}: link up, 1000Mbps, full-duplex',
            f'audit: type=1400 audit({a}.{b}:2): apparmor="STATUS" '
            'operation="profile_load" profile="unconfined"'])


def logs(scale):
    out = []
    for make, n in ((log_syslog, 90), (log_access, 55), (log_python, 70),
                    (log_java, 60), (log_training, 60), (log_json, 35),
                    (log_kernel, 60)):
        for _ in range(scale):
            out.append('\n'.join(make(n)) + '\n')
    rng.shuffle(out)
    return ''.join(out)


def csvs(scale):
    out = []
    for _ in range(scale):
        rows = ['id,name,email,city,signup_date,age,balance,active']
        for i in range(150):
            name = rng.choice(NAMES)
            rows.append('%d,%s,%s@example.com,%s,%d-%02d-%02d,%d,%.2f,%s' % (
                i + 1, name, name.lower().replace(' ', '.'), rng.choice(CITIES),
                rng.randrange(2015, 2026), rng.randrange(1, 13),
                rng.randrange(1, 29), rng.randrange(18, 80),
                rng.uniform(0, 9999), rng.choice(['true', 'false'])))
        out.append('\n'.join(rows) + '\n')
        clock = Clock(60)
        rows = ['timestamp,sensor_id,temperature,humidity,pressure,status']
        t = 20.0
        for i in range(150):
            clock.tick()
            t += rng.uniform(-0.3, 0.3)
            rows.append('%s %s,S%03d,%.2f,%.1f,%.1f,%s' % (
                clock.date, clock.hms, i % 5, t, 40 + t / 2,
                1013 + rng.uniform(-1, 1), rng.choice(['OK', 'OK', 'WARN'])))
        out.append('\n'.join(rows) + '\n')
        rows = ['Date,Open,High,Low,Close,Adj Close,Volume']
        price = rng.uniform(20, 300)
        for i in range(130):
            price *= rng.uniform(0.98, 1.02)
            rows.append('2023-%02d-%02d,%.6f,%.6f,%.6f,%.6f,%.6f,%d' % (
                i // 28 % 12 + 1, i % 28 + 1, price, price * 1.01, price * 0.99,
                price * 1.002, price * 1.002, rng.randrange(10 ** 7)))
        out.append('\n'.join(rows) + '\n')
        rows = ['"Order ID";"Product";"Quantity";"Unit Price";"Country";"Date"']
        for i in range(110):
            rows.append('"%d";"%s %s";"%d";"%d,%02d";"%s";"%02d.%02d.2024"' % (
                536365 + i, rng.choice(WORDS).upper(), rng.choice(WORDS).upper(),
                rng.randrange(1, 30), rng.randrange(100), rng.randrange(100),
                rng.choice(['Germany', 'France', 'United Kingdom', 'Spain']),
                rng.randrange(1, 29), rng.randrange(1, 13)))
        out.append('\n'.join(rows) + '\n')
        rows = ['sepal_length,sepal_width,petal_length,petal_width,label']
        for i in range(100):
            rows.append('%.1f,%.1f,%.1f,%.1f,%s' % (
                rng.uniform(4, 8), rng.uniform(2, 4.5), rng.uniform(1, 7),
                rng.uniform(0.1, 2.5), rng.choice(['first', 'second', 'third'])))
        out.append('\n'.join(rows) + '\n')
        rows = ['\t'.join(['rank', 'word', 'count', 'frequency'])]
        for i in range(80):
            rows.append('%d\t%s\t%d\t%.8f' % (i + 1, rng.choice(WORDS),
                                              100000 // (i + 1), 0.1 / (i + 1)))
        out.append('\n'.join(rows) + '\n')
    return ''.join(out)


def merges(text, count):
    """Byte-pair merges learnt from `text`, in the notation of tokenizer.json."""
    words = {}
    for word in re.findall(r' ?[A-Za-z]+', text):
        key = tuple(word.replace(' ', '\u0120'))
        words[key] = words.get(key, 0) + 1
    found = []
    for _ in range(count):
        pairs = {}
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        best = max(pairs, key=lambda p: (pairs[p], p))
        found.append(best)
        merged = {}
        for word, n in words.items():
            new, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    new.append(word[i] + word[i + 1])
                    i += 2
                else:
                    new.append(word[i])
                    i += 1
            merged[tuple(new)] = merged.get(tuple(new), 0) + n
        words = merged
    return found


def added_token(i, content, special=True):
    return {'id': i, 'content': content, 'single_word': False, 'lstrip': False,
            'rstrip': False, 'normalized': False, 'special': special}


def jsons(prose, scale):
    out = []

    def add(value, indent=2):
        out.append(json.dumps(value, indent=indent, ensure_ascii=False) + '\n')

    tokenizer_merges = merges(prose, 260)
    for _ in range(scale):
        sizes = [(768, 12, 12, 3072), (1024, 24, 16, 4096), (384, 6, 12, 1536),
                 (2048, 22, 32, 5632), (4096, 32, 32, 11008),
                 (4096, 32, 32, 14336), (576, 30, 9, 1536), (640, 18, 4, 2048)]
        for name, kind in (('LlamaForCausalLM', 'llama'),
                           ('MistralForCausalLM', 'mistral'),
                           ('Qwen2ForCausalLM', 'qwen2'),
                           ('Gemma3ForCausalLM', 'gemma3_text'),
                           ('PhiForCausalLM', 'phi')):
            h, n, a, f = rng.choice(sizes)
            add({'architectures': [name], 'attention_bias': False,
                 'attention_dropout': 0.0, 'bos_token_id': 1, 'eos_token_id': 2,
                 'head_dim': h // a, 'hidden_act': 'silu', 'hidden_size': h,
                 'initializer_range': 0.02, 'intermediate_size': f,
                 'max_position_embeddings': rng.choice([2048, 4096, 8192, 32768,
                                                        131072]),
                 'mlp_bias': False, 'model_type': kind,
                 'num_attention_heads': a, 'num_hidden_layers': n,
                 'num_key_value_heads': max(1, a // 4), 'pad_token_id': None,
                 'pretraining_tp': 1, 'rms_norm_eps': 1e-05,
                 'rope_scaling': None, 'rope_theta': 10000.0,
                 'sliding_window': rng.choice([None, 4096]),
                 'tie_word_embeddings': rng.random() < 0.5,
                 'torch_dtype': rng.choice(['bfloat16', 'float16', 'float32']),
                 'transformers_version': '4.%d.%d' % (rng.randrange(30, 56),
                                                      rng.randrange(4)),
                 'use_cache': True, 'vocab_size': rng.choice([32000, 32064,
                                                              49152, 128256,
                                                              151936])})
        h, n, a, f = rng.choice(sizes)
        add({'_name_or_path': 'model/base', 'architectures': [rng.choice([
            'BertModel', 'BertForMaskedLM', 'RobertaForSequenceClassification',
            'MPNetModel', 'DistilBertForTokenClassification'])],
             'attention_probs_dropout_prob': 0.1, 'classifier_dropout': None,
             'gradient_checkpointing': False, 'hidden_act': 'gelu',
             'hidden_dropout_prob': 0.1, 'hidden_size': h,
             'id2label': {str(i): 'LABEL_%d' % i for i in range(4)},
             'initializer_range': 0.02, 'intermediate_size': f,
             'label2id': {'LABEL_%d' % i: i for i in range(4)},
             'layer_norm_eps': 1e-12, 'max_position_embeddings': 512,
             'model_type': 'bert', 'num_attention_heads': a,
             'num_hidden_layers': n, 'pad_token_id': 0,
             'position_embedding_type': 'absolute',
             'problem_type': 'single_label_classification',
             'torch_dtype': 'float32', 'transformers_version': '4.41.2',
             'type_vocab_size': 2, 'use_cache': True, 'vocab_size': 30522})
        add({'activation_function': 'gelu_new',
             'architectures': ['GPT2LMHeadModel'], 'attn_pdrop': 0.1,
             'bos_token_id': 50256, 'embd_pdrop': 0.1, 'eos_token_id': 50256,
             'initializer_range': 0.02, 'layer_norm_epsilon': 1e-05,
             'model_type': 'gpt2', 'n_ctx': 1024, 'n_embd': h, 'n_head': a,
             'n_layer': n, 'n_positions': 1024, 'resid_pdrop': 0.1,
             'summary_activation': None, 'summary_first_dropout': 0.1,
             'task_specific_params': {'text-generation': {
                 'do_sample': True, 'max_length': 50}}, 'vocab_size': 50257})
        add({'crop_size': {'height': 224, 'width': 224}, 'do_center_crop': True,
             'do_convert_rgb': True, 'do_normalize': True, 'do_rescale': True,
             'do_resize': True, 'feature_extractor_type': 'CLIPFeatureExtractor',
             'image_mean': [0.48145466, 0.4578275, 0.40821073],
             'image_processor_type': 'CLIPImageProcessor',
             'image_std': [0.26862954, 0.26130258, 0.27577711], 'resample': 3,
             'rescale_factor': 0.00392156862745098, 'size': {
                 'shortest_edge': 224}, 'processor_class': 'CLIPProcessor'})
        add({'add_bos_token': True, 'add_eos_token': False,
             'add_prefix_space': False, 'added_tokens_decoder': {
                 str(i): {k: v for k, v in added_token(i, t).items()
                          if k != 'id'}
                 for i, t in enumerate(['<unk>', '<s>', '</s>', '<pad>',
                                        '<|im_start|>', '<|im_end|>',
                                        '<|endoftext|>'])},
             'additional_special_tokens': ['<|im_start|>', '<|im_end|>'],
             'bos_token': '<s>', 'chat_template':
             "{% for message in messages %}{% if loop.first and "
             "messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are "
             "a helpful assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
             "message['role'] + '\n' + message['content'] + '<|im_end|>' + "
             "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
             "'<|im_start|>assistant\n' }}{% endif %}",
             'clean_up_tokenization_spaces': False, 'cls_token': '[CLS]',
             'do_lower_case': True, 'eos_token': '</s>', 'errors': 'replace',
             'extra_special_tokens': {}, 'legacy': True, 'mask_token': '[MASK]',
             'model_max_length': 1000000000000000019884624838656,
             'pad_token': '<pad>', 'padding_side': 'right', 'sep_token': '[SEP]',
             'sp_model_kwargs': {}, 'strip_accents': None,
             'tokenize_chinese_chars': True,
             'tokenizer_class': 'PreTrainedTokenizerFast',
             'unk_token': '<unk>', 'use_default_system_prompt': False})
        add({'bos_token': {'content': '<s>', 'lstrip': False,
                           'normalized': False, 'rstrip': False,
                           'single_word': False},
             'eos_token': {'content': '</s>', 'lstrip': False,
                           'normalized': False, 'rstrip': False,
                           'single_word': False},
             'pad_token': '</s>', 'unk_token': {
                 'content': '<unk>', 'lstrip': False, 'normalized': False,
                 'rstrip': False, 'single_word': False}})
        add({'_from_model_config': True, 'bos_token_id': 1, 'do_sample': True,
             'eos_token_id': [2, 32000], 'max_length': 4096,
             'pad_token_id': 0, 'temperature': 0.6, 'top_k': 50, 'top_p': 0.9,
             'transformers_version': '4.45.0'})
        add([{'idx': 0, 'name': '0', 'path': '',
              'type': 'sentence_transformers.models.Transformer'},
             {'idx': 1, 'name': '1', 'path': '1_Pooling',
              'type': 'sentence_transformers.models.Pooling'},
             {'idx': 2, 'name': '2', 'path': '2_Normalize',
              'type': 'sentence_transformers.models.Normalize'}])
        add({'word_embedding_dimension': 768, 'pooling_mode_cls_token': False,
             'pooling_mode_mean_tokens': True, 'pooling_mode_max_tokens': False,
             'pooling_mode_mean_sqrt_len_tokens': False})
        add({'alpha_pattern': {}, 'auto_mapping': None,
             'base_model_name_or_path': 'org/model-7b', 'bias': 'none',
             'fan_in_fan_out': False, 'inference_mode': True,
             'init_lora_weights': True, 'layers_to_transform': None,
             'lora_alpha': 32, 'lora_dropout': 0.05, 'modules_to_save': None,
             'peft_type': 'LORA', 'r': 16, 'rank_pattern': {}, 'revision': None,
             'target_modules': ['q_proj', 'k_proj', 'v_proj', 'o_proj',
                                'gate_proj', 'up_proj', 'down_proj'],
             'task_type': 'CAUSAL_LM', 'use_dora': False, 'use_rslora': False})
        weights = {'lm_head.weight': 'model-00004-of-00004.safetensors',
                   'model.embed_tokens.weight':
                   'model-00001-of-00004.safetensors'}
        for i in sorted(range(6), key=str):
            for part in ('input_layernorm', 'mlp.down_proj', 'mlp.gate_proj',
                         'mlp.up_proj', 'post_attention_layernorm',
                         'self_attn.k_proj', 'self_attn.o_proj',
                         'self_attn.q_proj', 'self_attn.v_proj'):
                weights['model.layers.%d.%s.weight' % (i, part)] = (
                    'model-%05d-of-00004.safetensors' % (1 + i // 2))
        add({'metadata': {'total_size': rng.randrange(10 ** 10) * 4},
             'weight_map': weights})
        tokens = ['!', '"', '#', '$', '%', '&', "'", '(', ')', '*', '+', ',',
                  '-', '.', '/'] + list('0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUV'
                                        'WXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz'
                                        '{|}~')
        tokens += [a + b for a, b in tokenizer_merges]
        add({'version': '1.0', 'truncation': None, 'padding': None,
             'added_tokens': [added_token(i, t) for i, t in enumerate(
                 ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<pad>'])],
             'normalizer': None, 'pre_tokenizer': {
                 'type': 'ByteLevel', 'add_prefix_space': False,
                 'trim_offsets': True, 'use_regex': True},
             'post_processor': {'type': 'ByteLevel', 'add_prefix_space': True,
                                'trim_offsets': False, 'use_regex': True},
             'decoder': {'type': 'ByteLevel', 'add_prefix_space': True,
                         'trim_offsets': True, 'use_regex': True},
             'model': {'type': 'BPE', 'dropout': None, 'unk_token': None,
                       'continuing_subword_prefix': None,
                       'end_of_word_suffix': None, 'fuse_unk': False,
                       'byte_fallback': False, 'ignore_merges': False,
                       'vocab': {t: i for i, t in enumerate(tokens)},
                       'merges': [a + ' ' + b for a, b in tokenizer_merges]}})
        out.append(''.join('%s %s\n' % m for m in tokenizer_merges[:60]))
        add({'log_history': [
            {'epoch': round(i / 50, 2), 'grad_norm': rng.uniform(0.1, 3),
             'learning_rate': 5e-5 * (1 - i / 20), 'loss': round(
                 3 - i * 0.05 + rng.uniform(-0.1, 0.1), 4), 'step': i * 10}
            for i in range(1, 13)], 'max_steps': 5000, 'num_train_epochs': 3,
             'global_step': 130, 'is_local_process_zero': True})
        add([{'id': i, 'name': rng.choice(NAMES), 'email':
              '%s@example.com' % rng.choice(WORDS), 'address': {
                  'city': rng.choice(CITIES), 'zipcode': '%05d' %
                  rng.randrange(10 ** 5), 'geo': {
                      'lat': '%.4f' % rng.uniform(-90, 90),
                      'lng': '%.4f' % rng.uniform(-180, 180)}},
              'tags': [rng.choice(WORDS) for _ in range(3)],
              'created_at': '2024-%02d-%02dT%02d:00:00Z' % (
                  rng.randrange(1, 13), rng.randrange(1, 29),
                  rng.randrange(24)), 'active': rng.random() < 0.5}
             for i in range(12)], 4)
        out.append(json.dumps({'type': 'FeatureCollection', 'features': [
            {'type': 'Feature', 'properties': {'name': rng.choice(CITIES),
                                               'population': rng.randrange(
                                                   10 ** 6)},
             'geometry': {'type': 'Point', 'coordinates': [
                 round(rng.uniform(-180, 180), 6),
                 round(rng.uniform(-90, 90), 6)]}} for _ in range(14)]}) + '\n')
        add({'name': 'example-app', 'version': '1.4.2', 'description':
             'An example application', 'main': 'index.js', 'scripts': {
                 'start': 'node index.js', 'build': 'webpack --mode production',
                 'test': 'jest --coverage', 'lint': 'eslint src'},
             'repository': {'type': 'git', 'url':
                            'git+https://github.com/example/app.git'},
             'keywords': ['example'], 'author': '', 'license': 'MIT',
             'dependencies': {'express': '^4.18.2', 'lodash': '^4.17.21',
                              'react': '^18.2.0', 'react-dom': '^18.2.0'},
             'devDependencies': {'eslint': '^8.50.0', 'jest': '^29.7.0',
                                 'typescript': '^5.2.2'},
             'engines': {'node': '>=18.0.0'}})
        for i in range(25):
            out.append(json.dumps({
                'messages': [
                    {'role': 'system', 'content': 'You are a helpful assistant.'},
                    {'role': 'user', 'content': 'What is the %s?' % phrase(3)},
                    {'role': 'assistant', 'content': 'The %s is a %s.' % (
                        phrase(2), phrase(3))}]}) + '\n')
    return ''.join(out)


def cards(scale):
    out = []
    tasks = ['text-generation', 'feature-extraction', 'text-classification',
             'automatic-speech-recognition', 'sentence-similarity',
             'image-classification', 'translation', 'fill-mask']
    for _ in range(6 * scale):
        org = rng.choice(['example-org', 'acme-ai', 'openlab', 'my-user'])
        size = rng.choice(['7B', '1.5B', '270M', '135M', '13B', 'base', 'large'])
        kind = rng.choice(['Instruct', 'Chat', 'v0.2', 'GGUF', 'LoRA', 'Base'])
        name = '%s-%s-%s' % (rng.choice(WORDS).capitalize(), size, kind)
        task = rng.choice(tasks)
        out.append(f'''---
license: {rng.choice(['apache-2.0', 'mit', 'cc-by-4.0', 'llama3', 'gemma'])}
language:
- en
{rng.choice(['- de', '- fr', '- multilingual', '- zh'])}
library_name: {rng.choice(['transformers', 'sentence-transformers', 'peft', 'gguf'])}
pipeline_tag: {task}
base_model: {org}/{name.rsplit('-', 1)[0]}
datasets:
- {org}/{rng.choice(WORDS)}-dataset
metrics:
- accuracy
- f1
tags:
- pytorch
- safetensors
- {task}
- generated_from_trainer
- license:apache-2.0
- autotrain_compatible
- endpoints_compatible
- region:us
widget:
- text: "The {phrase(3)} is"
model-index:
- name: {name}
  results:
  - task:
      type: {task}
      name: {task.replace('-', ' ').title()}
    dataset:
      name: {rng.choice(WORDS)}
      type: {rng.choice(WORDS)}
      split: test
    metrics:
    - type: accuracy
      value: {rng.uniform(0.5, 1):.4f}
      verified: true
---

# {name}

<!-- Provide a quick summary of what the model is/does. -->

This model is a fine-tuned version of [{org}/{name}](https://huggingface.co/{org}/{name}) on the {rng.choice(WORDS)} dataset.
It achieves the following results on the evaluation set:
- Loss: {rng.uniform(0.1, 3):.4f}
- Accuracy: {rng.uniform(0.5, 1):.4f}

## Model Details

### Model Description

- **Developed by:** {rng.choice(NAMES)}
- **Model type:** Transformer-based language model
- **Language(s) (NLP):** English
- **License:** Apache 2.0
- **Finetuned from model:** {org}/{name}

### Model Sources

- **Repository:** https://github.com/{org}/{name.lower()}
- **Paper:** [More Information Needed]

## Uses

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model_id = "{org}/{name}"
tokenizer = AutoTokenizer.from_pretrained(model_id)
model = AutoModelForCausalLM.from_pretrained(
    model_id, torch_dtype=torch.bfloat16, device_map="auto"
)
inputs = tokenizer("Hello, my name is", return_tensors="pt").to(model.device)
outputs = model.generate(**inputs, max_new_tokens={rng.choice([20, 64, 256])})
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```

## Bias, Risks, and Limitations

The model was trained on text that may contain biased or offensive content. Users (both direct and downstream) should be made aware of the risks, biases and limitations of the model.

## Training procedure

### Training hyperparameters

The following hyperparameters were used during training:
- learning_rate: {rng.choice(['2e-05', '5e-05', '0.0001'])}
- train_batch_size: {rng.choice([8, 16, 32])}
- eval_batch_size: 8
- seed: 42
- gradient_accumulation_steps: {rng.choice([1, 4, 8])}
- optimizer: Adam with betas=(0.9,0.999) and epsilon=1e-08
- lr_scheduler_type: {rng.choice(['linear', 'cosine'])}
- num_epochs: 3

### Training results

| Training Loss | Epoch | Step | Validation Loss | Accuracy |
|:-------------:|:-----:|:----:|:---------------:|:--------:|
''' + ''.join('| %.4f        | %d.0   | %4d | %.4f          | %.4f   |\n' % (
            rng.uniform(0.1, 3), i + 1, 250 * (i + 1), rng.uniform(0.1, 3),
            rng.uniform(0.5, 1)) for i in range(3)) + f'''
### Framework versions

- Transformers 4.{rng.randrange(30, 56)}.0
- Pytorch 2.{rng.randrange(9)}.0+cu121
- Datasets 2.{rng.randrange(10, 20)}.0
- Tokenizers 0.{rng.randrange(13, 20)}.1

## Quantized files

| Name | Quant method | Bits | Size | Use case |
| ---- | ---- | ---- | ---- | ---- |
| [{name.lower()}.Q4_K_M.gguf](https://huggingface.co/{org}/{name}-GGUF/blob/main/{name.lower()}.Q4_K_M.gguf) | Q4_K_M | 4 | {rng.uniform(0.1, 9):.2f} GB | medium, balanced quality - recommended |
| [{name.lower()}.Q8_0.gguf](https://huggingface.co/{org}/{name}-GGUF/blob/main/{name.lower()}.Q8_0.gguf) | Q8_0 | 8 | {rng.uniform(0.1, 9):.2f} GB | very large, extremely low quality loss |

## Citation

```bibtex
@misc{{{rng.choice(WORDS)}2024,
      title={{{phrase(5).title()}}},
      author={{{' and '.join(rng.sample(NAMES, 3))}}},
      year={{2024}},
      eprint={{24{rng.randrange(1, 13):02d}.{rng.randrange(10000):05d}}},
      archivePrefix={{arXiv}},
      primaryClass={{cs.CL}}
}}
```

''')
    return ''.join(out)


def pieces(path, count, size):
    """`count` pieces of `size` bytes, in whole lines, from all over a text."""
    data = path.read_bytes()
    out = []
    for i in range(count):
        begin = data.find(b'\n', len(data) * i // count + len(data) // 97) + 1
        end = data.find(b'\n', begin + size) + 1
        out.append(data[begin:end])
    return b''.join(out).decode('utf-8', 'replace')


def main():
    corpus, out = map(pathlib.Path, sys.argv[1:3])
    scale = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    out.mkdir(parents=True, exist_ok=True)
    prose = pieces(corpus / 'prose.txt', 9, 9000)
    if scale == 1:
        for kind, count, size in (('prose', 9, 9000), ('wiki', 7, 8000),
                                  ('html', 6, 7000), ('markup', 6, 8000),
                                  ('code', 9, 8000)):
            (out / (kind + '.txt')).write_text(
                pieces(corpus / (kind + '.txt'), count, size), 'utf-8')
    (out / 'json.txt').write_text(jsons(prose, scale), 'utf-8')
    (out / 'cards.txt').write_text(cards(scale), 'utf-8')
    (out / 'logs.txt').write_text(logs(scale), 'utf-8')
    (out / 'csv.txt').write_text(csvs(scale), 'utf-8')


if __name__ == '__main__':
    main()
