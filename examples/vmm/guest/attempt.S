// SPDX-License-Identifier: BSL-1.0
//
// Code that an exception may end.

    .section .bss
    .align 8
    .globl attempt_stack
attempt_stack: // RSP of the attempt that is under way, or 0
    .skip 8

    .text
    // bool attempt_call(void (*action)(void*) rdi, void* with rsi). True when the action returned. An exception's
    // handler goes on at attempt_failed with the stack pointer of attempt_stack: what a function keeps for its caller is
    // on that stack. Attempts nest.
    .globl attempt_call
attempt_call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push attempt_stack
    mov %rsp, attempt_stack
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    mov $1, %eax
0:  cld
    pop attempt_stack
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .globl attempt_failed
attempt_failed:
    xor %eax, %eax
    jmp 0b

    .section .note.GNU-stack, "", @progbits
