// SPDX-License-Identifier: BSL-1.0
//
// Into the guest and back: what VMX leaves to software are the general registers.
#include "general_registers.S"

    .set host_rsp, 0x6C14 // the field of the VMCS

    .text
    // enum class vmx_outcome vmx_enter(std::uint64_t* rdi: the general registers by their numbers, bool launched esi).
    // RSP of the guest is in the VMCS, and not touched here. An exit arrives at vmx_exit with the stack as it was at the
    // entry, the address of the registers on top.
    .globl vmx_enter
vmx_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $host_rsp, %eax
    vmwrite %rsp, %rax
    test %esi, %esi // moves below leave the flags alone
    mov 0(%rdi), %rax
    load_general_registers
    jnz 0f
    vmlaunch
    jmp 1f
0:  vmresume
1:  mov $1, %eax // CF: VMfailInvalid
    jc 2f
    mov $2, %eax // ZF: VMfailValid
2:  pop %rdi
    jmp 3f

    .globl vmx_exit
vmx_exit:
    store_general_registers
    mov %rax, 0(%rdi)
    pop %rdi
    xor %eax, %eax
3:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
