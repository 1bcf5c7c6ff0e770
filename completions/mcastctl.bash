_mcastctl_completion() {
    local line=${COMP_LINE:0:COMP_POINT} program=$1 type value
    type -P -- "$program" > /dev/null || program=mcastctl
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(
        exec env COMP_WORDS="mcastctl${line#*"$1"}" _MCASTCTL_BREAKS="$COMP_WORDBREAKS" _MCASTCTL_COMPLETE=bash_complete "$program" 2> /dev/null
    )
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}

complete -o nosort -F _mcastctl_completion mcastctl
