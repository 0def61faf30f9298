/** Answers are held back where libfuse would end a thread for them, and never for good. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { ReplyPacer } from '../../fuse/reply-pacer.ts';

/** libfuse as it counts: idle threads, of which an eleventh ends; a request takes an idle one, or a new one. */
class Threads {
  /** As fuse-native counts: it knows a thread from its first request on. */
  size = 0;
  ended = 0;
  idle = 0;
  answered = 0;
  readonly pacer: ReplyPacer = new ReplyPacer(this);

  ask(): void {
    if (this.idle > 0) this.idle--;
    else this.size++;
    this.pacer.begin();
  }

  answer(): void {
    this.pacer.end(() => {
      this.answered++;
      if (this.idle < 10) this.idle++;
      else this.ended++;
    });
  }
}

test('few requests are answered at once', (t) => {
  const threads = new Threads();
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < 8; i++) threads.ask();
    for (let i = 0; i < 8; i++) threads.answer();
    t.is(threads.answered, 8 * (round + 1));
  }
  t.deepEqual([threads.size, threads.ended], [8, 0]);
});

test('while many readers go on, no thread ends', (t) => {
  const threads = new Threads();
  for (let i = 0; i < 32; i++) threads.ask();
  for (let round = 0; round < 1000; round++) {
    const before = threads.answered;
    for (let i = 0; i < 20; i++) threads.answer();
    while (threads.answered > before + (round % 3)) {
      const back = threads.answered - before;
      for (let i = 0; i < back; i++) threads.ask();
      if (threads.answered === before + back) break;
    }
  }
  t.true(threads.answered > 5000);
  t.is(threads.ended, 0);
});

test('when all readers stop, all are answered, and later ones at once', async (t) => {
  const threads = new Threads();
  for (let i = 0; i < 40; i++) threads.ask();
  for (let i = 0; i < 40; i++) threads.answer();
  t.true(threads.answered < 40);
  while (threads.answered < 40) await sleep(1);
  threads.ask();
  threads.answer();
  t.is(threads.answered, 41);
});
