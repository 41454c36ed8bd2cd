#compdef berth
# Completion of berth for zsh; in ~/.zshrc behind compinit:  source <(berth completion zsh)

_berth() {
    local line directive
    local -a lines names texts options
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${lines[@]}"; do
        case $line in
        '') ;;
        :*) directive=$line ;;
        *)
            names+=("${line%%$'\t'*}")
            texts+=("${line/$'\t'/  -- }")
            ;;
        esac
    done
    case $directive in
    :files|:directories)
        [[ $PREFIX == --*=* ]] && compset -P '*='
        if [[ $directive == :files ]]; then _files; else _files -/; fi
        return
        ;;
    :nospace) options=(-S '') ;;
    esac
    compadd "${options[@]}" -l -d texts -a -- names
}

if [[ ${funcstack[1]} == _berth ]]; then
    _berth "$@"
else
    compdef _berth berth
fi
